"""Checksums of the weight files that Keras publishes without their classifier."""

import hashlib
from pathlib import Path

from twinlens.errors import InputError

KERNELS = "_weights_tf_dim_ordering_tf_kernels_notop.h5"
PUBLISHED = {  # by file name; as Keras 3.15 checks them when it downloads them itself
    f"inception_v3{KERNELS}": "bcbd6486424b2319ff4ef7d526e38f63",
    f"inception_resnet_v2{KERNELS}": "d19885ff4a710c122648d3b5c3b684e4",
    f"xception{KERNELS}": "b0042744bf5b25fce3cb969f33bebb97",
    f"vgg16{KERNELS}": "6d6bbae143d832006294945121d1f1fc",
    f"vgg19{KERNELS}": "253f8cb515780f3b799900260a226db6",
    f"resnet50{KERNELS}": "4d473c1dd8becc155b73f8504c6f6626",
    f"resnet101{KERNELS}": "88cf7a10940856eca736dc7b7e228a21",
    f"resnet152{KERNELS}": "ee4c566cf9a93f14d82f913c2dc6dd0c",
    f"resnet50v2{KERNELS}": "fac2f116257151a9d068a22e544a4917",
    f"resnet101v2{KERNELS}": "c0ed64b8031c3730f411d2eb4eea35b5",
    f"resnet152v2{KERNELS}": "ed17cf2e0169df9d443503ef94b23b33",
    f"densenet121{KERNELS}": "30ee3e1110167f948a6b9946edeeb738",
    f"densenet169{KERNELS}": "b8c4d4c20dd625c148057b9ff1c1176b",
    f"densenet201{KERNELS}": "c13680b51ded0fb44dff2d8f86ac8bb1",
    "nasnet_mobile_no_top.h5": "1ed92395b5b598bdda52abe5c0dbfd63",
    "nasnet_large_no_top.h5": "d81d89dc07e6e56530c4e77faddd61b5",
    "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5": (
        "d3e8ec802a04aa4fc771ee12a9a9b836"
    ),
    "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5": (
        "07fb09a5933dd0c8eaafa16978110389"
    ),
    "efficientnetb0_notop.h5": "50bc09e76180e00e4465e1a485ddc09d",
    "efficientnetb1_notop.h5": "74c4e6b3e1f6a1eea24c589628592432",
    "efficientnetb2_notop.h5": "111f8e2ac8aa800a7a99e3239f7bfb39",
    "efficientnetb3_notop.h5": "af6d107764bb5b1abb91932881670226",
    "efficientnetv2-b0_notop.h5": "893217f2bb855e2983157299931e43ff",
    "efficientnetv2-b1_notop.h5": "0e80663031ca32d657f9caa404b6ec37",
    "efficientnetv2-b2_notop.h5": "1dfe2e7a5d45b6632553a8961ea609eb",
    "efficientnetv2-b3_notop.h5": "f6abf7b5849ac99a89b50dd3fd532856",
    "efficientnetv2-s_notop.h5": "af0682fb74e8c54910f2d4393339c070",
    "convnext_tiny_notop.h5": (
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1"
    ),
}


def check_published(path: Path) -> None:
    """Compares a file of a published name with its published checksum.

    Raises:
        InputError: it is damaged, or another file under that name.
    """
    expected = PUBLISHED.get(path.name)
    if expected is None:
        return
    kind = "md5" if len(expected) == 32 else "sha256"
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != expected:
        raise InputError(
            f"{path} has the name of a file that Keras publishes, but its {kind} is "
            f"{found} instead of {expected}. Download it again; if these are weights "
            "of your own, give the file another name."
        )
