"""Name, version and dependencies of twinlens; every other setting is elsewhere."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIRES = [
    "tensorflow>=2.21,<2.22",  # tensorflow-text must match its minor version
    "tensorflow-text>=2.21,<2.22",
    "keras>=3.15,<4",
    "keras-hub>=0.32,<0.33",
    "safetensors>=0.5",  # KerasHub reads local folders with it, but does not ask for it
    "numpy>=2.0",
    "pandas>=2.2",
    "pyarrow>=18",
    "matplotlib>=3.9",
    "pillow>=11",
    "tensorboard>=2.20",
    "pydantic>=2.9",
    "tomlkit>=0.13",
    "typer>=0.15",
    "rich>=13.9",
    "jinja2>=3.1",
    "filelock>=3.16",
    "pyparsing>=3.1",
]

SEARCH = ["faiss-cpu>=1.9"]

MILVUS = ["pymilvus>=3.0", "milvus-lite>=3.2"]

HUB = [
    "tensorflow-hub>=0.16",
    "setuptools<82",  # the last with pkg_resources, which tensorflow-hub imports
]

JAX = ["jax[cpu]>=0.7"]  # on an accelerator, `jax[cuda12]` or its like instead

RAY = ["ray[data]>=2.50"]

SEGMENT = ["opencv-python-headless>=4.10,<6"]  # without windows: needs no X11

ONNX = ["tf2onnx>=1.17", "onnxruntime>=1.20"]

LITERT = ["ai-edge-litert>=2"]

KERNEL = ["ipykernel>=6.29", "ipywidgets>=8.1", "nbclient>=0.10", "nbformat>=5.10"]

SERVE = [
    *SEARCH,
    "fastapi>=0.115",
    "uvicorn>=0.32",
    "python-multipart>=0.0.18",  # forms of FastAPI
    "prometheus-client>=0.21",
    "nicegui>=3.4,<4",
    "krippendorff>=0.8",
]

EXTRAS = {
    "tfidf": ["scikit-learn>=1.5"],
    "search": SEARCH,
    "milvus": [*SEARCH, *MILVUS],
    "segment": SEGMENT,
    "jax": JAX,
    "ray": RAY,
    "onnx": ONNX,
    "litert": LITERT,
    "notebooks": [*SEARCH, *KERNEL, "jupyterlab>=4.3"],
    "serve": SERVE,
    "test": [
        *HUB,
        *SEARCH,
        *MILVUS,
        *SEGMENT,
        *JAX,
        *ONNX,
        *LITERT,
        *KERNEL,
        *SERVE,
        "httpx>=0.28",
        "schemathesis>=4.0",
        "playwright>=1.49",  # drives Debian's Chromium; downloads none
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "psutil>=6",
        "hypothesis>=6.100",
        "scikit-learn>=1.5",
        "pytrec-eval-terrier>=0.5.6",
        "ruff==0.17.5",
    ],
    "hub": HUB,
    "parity": [
        "torch==2.13.0",
        "transformers>=5,<6",
        "sentence-transformers>=5",
        "sentencepiece>=0.2",
        "tokenizers>=0.21",
    ],
    "fuzz": ["atheris>=3"],
    "bench": [
        # The newest torch brings gigabytes of GPU libraries; this one has a CPU build.
        "torch==2.13.0",
        "torchvision==0.28.0",
        "torchmetrics>=1.6",
        "openvino>=2025.0",
        *SEARCH,
        *SEGMENT,
        "scikit-learn>=1.5",
        "sentence-transformers>=6",
        "psutil>=6",
    ],
}

setup(
    name="twinlens",
    version="0.1.0",
    description="Train image-text dual encoders and search with them.",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages("src"),
    package_dir={"": "src"},
    package_data={"twinlens": ["config/*.toml", "report/*.html", "serve/*.css"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["twinlens = twinlens.cli:main"]},
)
