"""The readers of Flickr8k and Flickr30k."""

import pytest

from twinlens.data.table import load, problem_counts, read
from twinlens.errors import InputError

NAMES = ("1.jpg", "2.jpg", "3.jpg")


def make(root, files, folder="Images", names=NAMES):
    """A source of empty pictures and the text files `{name: text}`."""
    (root / folder).mkdir()
    for name in names:
        (root / folder / name).touch()
    for name, text in files.items():
        (root / name).write_text(text, "utf-8")
    return root


def tokens(*names):
    return "".join(f"{n}#{i}\tA dog {i} .\n" for n in names for i in range(2))


LISTS = {
    "Flickr_8k.trainImages.txt": "1.jpg\n",
    "Flickr_8k.devImages.txt": "2.jpg\n",
    "Flickr_8k.testImages.txt": "3.jpg",
}


@pytest.mark.parametrize("folder", ["Images", "Flicker8k_Dataset", "Flickr8k_Dataset"])
def test_the_token_file_takes_its_splits_from_the_lists(tmp_path, folder):
    files = {"Flickr8k.token.txt": tokens(*NAMES), **LISTS}
    data = load("flickr8k", make(tmp_path, files, folder))
    assert data.problems == []
    assert data.table.to_numpy().tolist() == [
        [name, str(tmp_path / folder / name), f"A dog {i} .", split]
        for name, split in zip(NAMES, ("train", "val", "test"), strict=True)
        for i in range(2)
    ]


def test_a_picture_in_no_list_is_counted_and_left_out(tmp_path):
    quirk = "2258277193_586949ec62.jpg.1"  # as published: there is no such picture
    lists = {"Flickr_8k.trainImages.txt": "1.jpg\n2.jpg\nlisted.jpg\n"}
    files = {"Flickr8k.token.txt": tokens("1.jpg", "2.jpg", quirk), **lists}
    data = load("flickr8k", make(tmp_path, files))
    assert set(data.table["image_id"]) == {"1.jpg", "2.jpg"}
    assert set(data.table["split"]) == {"train"}
    found = {(p.kind, p.where, p.detail.split()[-1]) for p in data.problems}
    assert found == {
        ("picture in no split", "Flickr8k.token.txt, row 5", quirk),
        ("picture without captions", f"folder {tmp_path / 'Images'}", "3.jpg"),
        (
            "picture without captions",
            "Flickr_8k.trainImages.txt, row 3",
            "listed.jpg",
        ),
    }


def test_without_lists_a_missing_picture_is_counted_once(tmp_path):
    quirk = "2258277193_586949ec62.jpg.1"
    make(tmp_path, {"Flickr8k.token.txt": tokens(*NAMES, quirk)})
    data = load("flickr8k", tmp_path)
    assert problem_counts(data.problems) == {"picture file is missing": 1}
    assert data.problems[0].where == "Flickr8k.token.txt, row 7"


def test_malformed_rows_are_counted_and_blank_ones_ignored(tmp_path):
    text = "1.jpg#0\tA dog .\n\n2.jpg A cat .\n2.jpg#x\tA cat .\n"
    text += "3.jpg#0\tA bird\tsings .\r\n"
    data = load("flickr8k", make(tmp_path, {"Flickr8k.token.txt": text}))
    malformed = [p.where for p in data.problems if p.kind == "malformed row"]
    assert malformed == ["Flickr8k.token.txt, row 3", "Flickr8k.token.txt, row 4"]
    assert data.table["caption"].tolist() == ["A dog .", "A bird sings ."]


def test_the_csv_form_is_split_by_picture(tmp_path):
    text = 'image,caption\n1.jpg,"A dog, big ."\n2.jpg,A cat .\n3.jpg,A, bird .\n'
    data = load("flickr8k", make(tmp_path, {"captions.txt": text}))
    assert data.table["caption"].tolist() == ["A dog, big .", "A cat ."]
    first = data.problems[0]
    assert (first.kind, first.where) == ("malformed row", "captions.txt, row 4")
    assert set(data.table["split"]) <= {"train", "val", "test"}


def test_a_picture_in_two_lists_is_refused(tmp_path):
    files = {"Flickr8k.token.txt": tokens(*NAMES), **LISTS}
    files["Flickr_8k.testImages.txt"] = "3.jpg\n1.jpg\n"
    message = (
        r"Picture 1.jpg is in two splits: train \(Flickr_8k.trainImages.txt, row 1\) "
        r"and test \(Flickr_8k.testImages.txt, row 2\)"
    )
    with pytest.raises(InputError, match=message):
        read("flickr8k", make(tmp_path, files))


PIPES = """image_name| comment_number| comment
1.jpg| 0| Two men | women wait .
1.jpg| 1| A bus .
2.jpg| 4   A dog runs across the grass .
2.jpg| 0| A dog .
3.jpg| 0| A cat .
"""


@pytest.mark.parametrize("folder", ["flickr30k-images", "flickr30k_images"])
def test_the_row_without_delimiter_is_counted(tmp_path, folder):
    lists = {"train.txt": "1\n2\n", "val.txt": "", "test.txt": "3.jpg\n"}
    data = load("flickr30k", make(tmp_path, {"results.csv": PIPES, **lists}, folder))
    assert [(p.kind, p.where) for p in data.problems] == [
        ("malformed row", "results.csv, row 4")
    ]
    captions = ["Two men | women wait .", "A bus .", "A dog .", "A cat ."]
    assert data.table["caption"].tolist() == captions
    assert data.table["split"].tolist() == ["train", "train", "train", "test"]


def test_the_token_file_of_flickr30k_is_read(tmp_path):
    files = {"results_20130124.token": tokens(*NAMES)}
    assert len(read("flickr30k", make(tmp_path, files, "flickr30k-images"))) == 6


def test_the_number_of_a_caption_follows_the_last_hash_sign(tmp_path):
    files = {"Flickr8k.token.txt": tokens("#1.jpg", "2.jpg")}
    table = read("flickr8k", make(tmp_path, files, names=("#1.jpg", "2.jpg")))
    assert table["image_id"].unique().tolist() == ["#1.jpg", "2.jpg"]


def test_other_names_are_given_from_inside_the_source_or_from_here(tmp_path):
    make(tmp_path, {"own.txt": tokens(*NAMES)}, "jpg")
    inside = read("flickr8k", tmp_path, images="jpg", captions="own.txt")
    given = tmp_path / "jpg", tmp_path / "own.txt"
    outside = read("flickr8k", tmp_path, images=given[0], captions=given[1])
    direct = read("flickr8k", tmp_path / "own.txt", images="jpg")
    assert inside.equals(outside) and inside.equals(direct)


@pytest.mark.parametrize(
    ("reader", "files", "message"),
    [
        ("flickr8k", {}, "looked for Flickr8k.token.txt, captions.txt"),
        ("flickr8k", {"results.csv": PIPES}, "The reader 'flickr30k' would fit"),
        ("flickr30k", {"Flickr8k.token.txt": ""}, "The reader 'flickr8k' would fit"),
        ("flickr8k", {"dataset_x.json": ""}, "The reader 'karpathy' would fit"),
        (
            "flickr8k",
            {"captions.txt": "a,b\n"},
            "captions.txt, row 1: 'a,b' is no form",
        ),
        (
            "flickr8k",
            {"captions.txt": '{"images": [{"sentences": []}]}'},
            "The reader 'karpathy' would fit",
        ),
    ],
)
def test_a_wrong_source_names_what_would_fit(tmp_path, reader, files, message):
    with pytest.raises(InputError, match=message):
        read(reader, make(tmp_path, files))


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        read("flickr8k", tmp_path / "nowhere")
    make(tmp_path, {"Flickr8k.token.txt": tokens(*NAMES)}, "pics")
    message = "looked for Images, Flicker8k_Dataset, Flickr8k_Dataset.*`images`"
    with pytest.raises(InputError, match=message):
        read("flickr8k", tmp_path)
    with pytest.raises(InputError, match="looked for photos"):
        read("flickr8k", tmp_path, images="photos")
