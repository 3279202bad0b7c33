import os
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from memjax.data.patients import make_rule
from memjax.errors import UserError

KERMANY = {
    "train/PNEUMONIA/person1003_virus_1685.jpeg": "person1003",
    "train/NORMAL/NORMAL2-IM-0458-0001.jpeg": "NORMAL2-IM-0458",
    "train/NORMAL/IM-0115-0001.jpeg": "IM-0115",
    "train/NORMAL/IM-0505-0001-0002.jpeg": "IM-0505",
}
OTHERS = [
    {"sub-01/anat/sub-01_T1w.nii.gz": "sub-01", "bids/sub-Xy2_T1w.nii.gz#12": "sub-Xy2"},
    {"a/TCGA_CS_4941_19960909_8.tif": "TCGA_CS_4941", "TCGA-DU-7294/t1.nii.gz": "TCGA-DU-7294"},
    {
        "BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz": "BraTS20_Training_001",
        "BraTS2021_00001_flair.nii.gz": "BraTS2021_00001",
        "HGG/BraTS19_TCIA01_101_1/BraTS19_TCIA01_101_1_t1.nii.gz": "BraTS19_TCIA01_101_1",
        "BraTS-GLI-00012-001-t1c.nii.gz": "BraTS-GLI-00012",
    },
]


@pytest.mark.parametrize("expected", [KERMANY, *OTHERS])
def test_known_names_tell_the_patient(expected):
    rule = make_rule().fit(list(expected))
    assert rule.kind == "names"
    assert {source: rule.patient(source) for source in expected} == expected


@pytest.mark.parametrize(("strays", "kind"), [(1, "names"), (2, "none")])
def test_a_pattern_applies_from_95_percent_on(strays, kind):
    sources = [f"person{i}_virus_{i}.jpeg" for i in range(20 - strays)] + [f"logo{i}.jpeg" for i in range(strays)]
    rule = make_rule().fit(sources)
    assert rule.kind == kind
    assert rule.patient(sources[0]) == ("person0" if kind == "names" else "")
    assert rule.patient("logo0.jpeg") == ""


def test_auto_prefers_the_formats_own_ids_and_never_mixes():
    sources = ["person1_virus_1.dcm", "person2_virus_2.dcm"]
    rule = make_rule().fit(sources, given=["P-1", ""])
    assert rule.kind == "format"
    assert [rule.patient(*pair) for pair in zip(sources, ["P-1", ""], strict=True)] == ["P-1", ""]


def test_unknown_names_and_an_empty_set_give_nobody():
    assert make_rule().fit(["img_1.png", "img_2.png"]).kind == "none"
    assert make_rule().fit([]).kind == "none"


def test_none_means_nobody_whatever_the_reader_says():
    rule = make_rule(how="none").fit(["sub-01.png"], given=["x"])
    assert (rule.kind, rule.patient("sub-01.png", "x")) == ("none", "")


@pytest.mark.parametrize("regex", [r"p(?:at)?(?P<patient>\d+)", r"p(?:at)?(\d+)", r"(?<=p)\d+"])
def test_a_regular_expression_names_its_group_or_the_first_or_all(regex):
    rule = make_rule(regex=regex).fit(["a/p7/1.png"])
    assert (rule.kind, rule.patient("a/p7/1.png", "given")) == ("regex", "7")


def test_a_regular_expression_must_fit_every_source():
    with pytest.raises(UserError, match=r"no patient in 2 of 3 sources \(the first: 'b.png'\)"):
        make_rule(regex=r"^a(\d)").fit(["a1.png", "b.png", "c.png"])


def test_a_bad_regular_expression_is_the_users_mistake():
    with pytest.raises(UserError, match=r"--patient_regex=\( is no regular expression"):
        make_rule(regex="(")


def test_two_rules_at_once_are_refused(tmp_path):
    with pytest.raises(UserError, match="not both"):
        make_rule(regex="x", csv_path=tmp_path / "p.csv")


def test_the_folder_can_be_the_patient():
    expected = {"train/p1/a.png": "p1", "p2/*": "p2", "p3/scans.npz#train_images/12": "p3", "p#4/5.png": "p#4"}
    rule = make_rule(how="folder").fit(list(expected))
    assert rule.kind == "folder"
    assert {source: rule.patient(source) for source in expected} == expected
    with pytest.raises(UserError, match="folder's name finds no patient in 1 of 1"):
        make_rule(how="folder").fit(["a.png"])


def table(folder: Path, text: str):
    (folder / "patients.csv").write_text(text, encoding="utf-8")
    return make_rule(csv_path=folder / "patients.csv")


@pytest.mark.parametrize("text", ["file,patient\n", "Source;Subject;age\n", "\ufeffimage\tpatient_id\n"])
def test_a_csv_is_read_with_any_of_its_headers_and_separators(tmp_path, text):
    mark = next(mark for mark in ",;\t" if mark in text)
    rows = [("./a/1.png", "anna"), ("b\\1.png", "bert"), ("2.png", "caro"), ("x.npz#3", "dora"), ("x.npz", "emil")]
    rule = table(tmp_path, text + "".join(f"{source}{mark}{patient}\n" for source, patient in rows))
    expected = {"a/1.png": "anna", "b/1.png": "bert", "deep/2.png": "caro", "x.npz#3": "dora", "x.npz#4": "emil"}
    assert rule.fit(list(expected)).kind == "csv"
    assert {source: rule.patient(source) for source in expected} == expected


@pytest.mark.parametrize(
    ("text", "sources", "message"),
    [
        ("file,patient\na.png,1\n", ["a.png", "b.png", "c.png"], r"for 2 of 3 sources \(the first: 'b.png'\)"),
        ("file,patient\nx/1.png,1\ny/1.png,2\n", ["z/1.png"], "no patient for 1 of 1"),
        ("file,patient\n1.png,1\n", ["x/1.png", "y/1.png"], "several files have this name"),
    ],
)
def test_a_csv_must_fit_every_source(tmp_path, text, sources, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, text).fit(sources)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\n1,2\n", "has the columns name, age; it needs one of source"),
        ("", "has the columns .none."),
        ("file,patient\na.png,1\na.png,2\n", "two patients, '1' and '2'"),
    ],
)
def test_a_bad_csv_is_the_users_mistake(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, text)


def test_a_missing_csv_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        make_rule(csv_path=tmp_path / "none.csv")


@pytest.mark.skipif("MEMJAX_REAL_DATA" not in os.environ, reason="MEMJAX_REAL_DATA is unset")
def test_real_kermany_names_group_as_the_published_patients():
    dev = Path(os.environ["MEMJAX_REAL_DATA"]) / "dev"
    with np.load(dev / "cxr64_kermany_trainval.npz", allow_pickle=False) as arrays:
        published = dict(zip(arrays["filename"].tolist(), arrays["patient"].tolist(), strict=True))
    with tarfile.open(dev / "kermany224_trainval.tar") as tar:
        sources = [name for name in tar.getnames() if name.endswith(".jpeg")]
    rule = make_rule().fit(sources)
    groups: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        groups[rule.patient(source)].add(published[source.rpartition("/")[2]])
    assert rule.kind == "names" and "" not in groups
    assert all(len(group) == 1 for group in groups.values())
    assert len(groups) == len(set(published.values()))
