"""Class files, ours and hostile ones."""

import pytest

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe, load_descriptions, named_classes, read_classes
from clipoint3d_ros.clip.text import class_features
from clipoint3d_ros.resources import config_file


@pytest.mark.parametrize(
    ("file", "count"), [("tabletop", 8), ("pointda10", 10), ("graspnetpc10", 10), ("household", 42)]
)
def test_our_class_files_have_five_descriptions_a_class(file, count):
    classes = load_descriptions(config_file(f"classes/{file}.yaml"))
    assert len(classes.names) == count
    assert all(len(told) == 5 == len(set(told)) for told in classes.descriptions)


def test_the_default_classes_are_exactly_those_promised():
    assert read_classes(None).names == ("box", "can", "tin", "book", "pot", "bowl", "mug", "carton")


def test_classes_are_named_as_a_user_names_them(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text("classes: [cup, fork]\n")
    assert read_classes(path) == read_classes(str(path)) == read_classes(["cup", "fork"]) == describe(["cup", "fork"])


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([], None),
        (["mug"], ["mug"]),
        (["no. 2 pencil"], ["no. 2 pencil"]),
        ("no. 2 pencil, mug", ["no. 2 pencil", "mug"]),
        ("mug 2.0", ["mug 2.0"]),
        (["salt/pepper", "mug"], ["salt/pepper", "mug"]),
        ("mine.yaml", "mine.yaml"),
        (["MINE.YML"], "MINE.YML"),
        ("/no/file", "/no/file"),
        (["there.txt"], "there.txt"),
        ("a, b", "a, b"),
        (["there.txt", "mug"], ["there.txt", "mug"]),
        ("m" * 5000, ["m" * 5000]),
    ],
)
def test_one_rule_says_what_is_a_file_and_what_a_name(tmp_path, monkeypatch, words, taken):
    monkeypatch.chdir(tmp_path)
    for name in ("there.txt", "a, b"):
        (tmp_path / name).write_text("mug\n")
    assert named_classes(words) == taken


def test_a_file_that_is_no_class_file_by_its_name_is_refused(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("classes: [mug]\n")
    with pytest.raises(ValueError, match=r"classes\.txt does not end in \.yaml or \.yml"):
        load_descriptions(path)
    assert load_descriptions(path.rename(tmp_path / "Classes.YAML")).names == ("mug",)


def test_prompts_hold_the_name_and_each_description(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text("classes: {red mug: [a handle], box: }\n")
    classes = load_descriptions(path)
    assert "the depth map of a red mug 3D model which has a handle" in classes.prompts(0)
    assert all("box" in prompt and "{" not in prompt for prompt in classes.prompts(1))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "no 'classes'"),
        ("classes: 3", "must map names"),
        ("classes: {}", "has 0 classes"),
        ("classes: [mug, mug]", "names mug twice"),
        ("classes:\n  mug: [a handle]\n  box: [a cube]\n  mug: [a disc]", "'mug' stands there twice.* line 4"),
        ("classes: [mug]\nclasses: [box]", "'classes' stands there twice"),
        ("classes: [unknown]", "kept for objects of no class"),
        ("classes: ['']", "class name ''"),
        ("classes: {mug: {a: 3}}", "must be a list of sentences"),
        ("classes: {mug: [[1], 2]}", "must be a list of sentences"),
        ("classes: {mug: ['']}", "at most 64 descriptions"),
        ("classes: [[mug]]", "a class is a name"),
        ("classes: [mug]\ntemplate: a mug", "must hold {class}"),
        ("classes: [mug]\nclases: [box]", "unknown keys 'clases'"),
        ("classes: [mug\n", "is not YAML"),
        ("classes: !!python/object/apply:os.system [ls]", "is not YAML: the tag 'tag:yaml.org,2002:python/object/app"),
        ("classes: [!!int 5]", "the tag 'tag:yaml.org,2002:int' has no place"),
        ("\x00", "is not YAML"),
        (f"classes: [{'m' * 400}]", "class name"),
        (f"classes: [mug]\ntemplate: '{{class}} {{description}} {'m' * 400}'", "at most 300 printable"),
        ('classes: {mug: ["half a \\uD800"]}', "printable"),
        ('classes: [mug]\ntemplate: "{class} {description} \\uDFFF"', "printable"),
        ("classes: [mug, *mug]", "is not YAML: an alias '\\*mug'"),
        ("classes: {mug: &a [x], tin: *a}", "an alias '\\*a'"),
    ],
)
def test_a_broken_class_file_is_refused_in_words(tmp_path, text, complaint):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        load_descriptions(path)


NESTED = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True))
MERGED = "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        f"a: &a [lol]\n{NESTED}classes: *k\n",
        f"a: &a {{lol: lol}}\n{MERGED}classes: *k\n",
        "classes: [190" + ":59" * 300_000 + "]",
        "classes: [190" + ":59" * 300_000 + ".5]",
        "classes: [" + "9" * 900_000 + "]",
        "classes: [0x" + "f" * 900_000 + "]",
        "classes: " + "[" * 500_000,
        "classes: {a: " + "[" * 400 + "]" * 400 + "}",
    ],
    ids=["aliases", "merges", "base 60", "base 60 fraction", "long number", "long hex", "deep", "nested"],
)
def test_a_class_file_that_would_grow_is_refused_in_words_and_soon(tmp_path, text):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"classes\.yaml") as refused:
        load_descriptions(path)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("word", ["no", "2001-99-99", "1:99.5", "1e999", "0o17", "12"])
def test_names_are_the_words_that_are_written(tmp_path, word):
    path = tmp_path / "classes.yaml"
    path.write_text(f"classes: {{{word}: ~, mug: }}\n", encoding="utf-8")
    classes = load_descriptions(path)
    assert classes.names == (word, "mug")
    assert classes.descriptions == ((), ())


def test_a_missing_or_huge_class_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no class file"):
        load_descriptions(tmp_path / "absent.yaml")
    (tmp_path / "huge.yaml").write_text("#" * (1 << 21))
    with pytest.raises(ValueError, match="at most"):
        load_descriptions(tmp_path / "huge.yaml")


def test_names_alone_are_classes_too():
    assert describe(["mug", "box"]).names == ("mug", "box")
    with pytest.raises(ValueError, match="0 classes"):
        describe([])


def test_class_features_are_the_unit_mean_of_their_sentences(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    classes = load_descriptions(config_file("classes/tabletop.yaml"))
    features = class_features(backbone, classes)
    assert features.shape == (8, 32)
    mean = backbone.encode_sentences(classes.prompts(3)).mean(0)
    assert (features[3] - mean / mean.norm()).abs().max() < 1e-6
