"""Bundles: what was saved is what is served, and every other folder is refused in words."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bundles import change_meta, change_weights, moved_network, small_bundle
from labelled import untrained_backbone
from quick_gelu import NAME, TAG, quick_gelu_weights
from safetensors.torch import load_file

from clipoint3d_ros.clip.backbone import file_checksum, load_backbone
from clipoint3d_ros.clip.bundle import (
    META_FILE,
    WEIGHTS_FILE,
    Adapter,
    BundleError,
    ClassStatistics,
    bundled_classes,
    load_bundle,
    read_meta,
    save_bundle,
)
from clipoint3d_ros.clip.descriptions import Descriptions, describe
from clipoint3d_ros.clip.network import NetworkConfig
from clipoint3d_ros.clip.text import class_prompts

SIXES = b'{"adapter.x":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
BEYOND = b'{"adapter.x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
CLASSES = Descriptions(("mug", "box", "tin"), (("a handle",), (), ("flat", "round")))
CONFIGS = {
    "lora": NetworkConfig(rank=4),
    "text": NetworkConfig(variant="T", rank=2),
    "vision": NetworkConfig(variant="V", rank=2),
    "bitfit": NetworkConfig(tuning="bitfit"),
    "layernorm": NetworkConfig(tuning="layernorm"),
    "prompts alone": NetworkConfig(tuning="none"),
    "lora alone": NetworkConfig(context=0, rank=4),
    "few points": NetworkConfig(rank=2, points=50),
    "statistics alone": NetworkConfig(tuning="none", context=0),
}


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory, backbone):
    return small_bundle(tmp_path_factory.mktemp("bundles") / "adapter", backbone)


@pytest.fixture
def bundle(tmp_path, original):
    """One to spoil."""
    return Path(shutil.copytree(original, tmp_path / "adapter"))


@torch.no_grad()
def answers(network, backbone):
    """(views' embeddings, classes' embeddings) of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    clouds = torch.rand(3, 200, 3, generator=generator) * 2 - 1
    views = torch.rand(3, 32, 32, generator=generator)
    extents = torch.rand(3, 3, generator=generator)
    prompts, _ = network.visual_prompts(clouds)
    return network.views(views, prompts, extents), network.text(
        class_prompts(backbone, CLASSES, network.config.context)
    )


def told_statistics():
    """Of three classes: a positive covariance of few directions, a class of which nothing is known."""
    generator = torch.Generator().manual_seed(2)
    spread = torch.rand(32, 5, generator=generator)
    mean = torch.rand(3, 32, generator=generator)
    return ClassStatistics(mean, spread @ spread.T, torch.tensor([4.0, 5.0, 0.0]), torch.tensor([0.5, 2.0]),
                           torch.tensor([0.75]))  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_loaded_adapter_answers_bit_for_bit_as_the_saved_one(tmp_path, backbone, config):
    network = moved_network(backbone, config)
    statistics = told_statistics()
    saved = Adapter(network, CLASSES, 2.5, 7, 3, {"accuracy": 0.5}, {"shots": 8}, statistics)
    loaded = load_bundle(save_bundle(tmp_path / "adapter", network, backbone, saved), backbone)
    for ours, theirs in zip(answers(loaded.network, backbone), answers(network.merged(), backbone), strict=True):
        assert torch.equal(ours, theirs)
    assert (loaded.classes, loaded.temperature, loaded.version, loaded.parent) == (CLASSES, 2.5, 7, 3)
    assert (loaded.probe, loaded.training) == ({"accuracy": 0.5}, {"shots": 8})
    for name, value in vars(statistics).items():
        assert torch.equal(getattr(loaded.statistics, name), value), f"{name} of the statistics has changed"
    assert bundled_classes(tmp_path / "adapter") == CLASSES


def test_an_adapter_says_something_else_than_the_frozen_model_and_leaves_that_as_it_was(tmp_path, backbone):
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    loaded = load_bundle(small_bundle(tmp_path / "adapter", backbone), backbone)
    seen, said = answers(loaded.network, backbone)
    frozen = class_prompts(backbone, CLASSES, 4).frozen
    assert (said - frozen).abs().max() > 1e-3
    assert torch.isfinite(seen).all()
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert not loaded.network.training
    after = backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bundle_is_two_files_that_anybody_may_read_and_nothing_is_pickled(bundle):
    assert sorted(path.name for path in bundle.iterdir()) == [WEIGHTS_FILE, META_FILE]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in bundle.iterdir())
    json.loads((bundle / META_FILE).read_text())
    load_file(bundle / WEIGHTS_FILE)


class Trap:
    """Raises where somebody unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("a bundle was unpickled",))


@pytest.mark.parametrize("file", [META_FILE, WEIGHTS_FILE])
def test_a_pickle_in_a_bundle_is_never_opened(bundle, backbone, file):
    (bundle / file).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BundleError, match=r"is not JSON|no safetensors file"):
        load_bundle(bundle, backbone)
    torch.save({"a": torch.zeros(1)}, bundle / file)
    with pytest.raises(BundleError, match=r"is not JSON|no safetensors file"):
        load_bundle(bundle, backbone)


# What is no bundle of this backbone


def test_an_adapter_of_another_backbone_is_refused_naming_both(bundle, tmp_path):
    other = load_backbone(untrained_backbone(tmp_path / "other"), device="cpu")
    with pytest.raises(BundleError, match=f"belongs to backbone .*small.* but this backbone is '{other.name}'"):
        load_bundle(bundle, other)


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """The same weights with QuickGELU, as they were trained, and without: by their tag, and by their path."""
    (tmp_path / "weights").mkdir()
    path = str(quick_gelu_weights(tmp_path / "weights", monkeypatch))
    names = {"tag": (NAME, TAG), "path": (f"{NAME}-quickgelu", path), "wrong": (NAME, path)}
    return {how: load_backbone(*name, device="cpu") for how, name in names.items()}


def as_before(bundle):
    """A bundle as it was written before bundles told the activation."""
    change_meta(bundle, lambda meta: meta["backbone"].pop("activation"))
    return bundle


@pytest.mark.parametrize("written", [lambda bundle: bundle, as_before], ids=["now", "before"])
def test_an_adapter_of_another_activation_is_refused(quick, tmp_path, written):
    trained = {how: written(small_bundle(tmp_path / how, backbone)) for how, backbone in quick.items()}
    for how in ("tag", "path"):
        assert load_bundle(trained[how], quick["tag"]).version == 1
        assert load_bundle(trained[how], quick["path"]).version == 1
        with pytest.raises(BundleError, match=f"trained on '{NAME}.*' with activation 'quick_gelu', but .* has gelu"):
            load_bundle(trained[how], quick["wrong"])
        with pytest.raises(BundleError, match=r"with activation 'gelu', but .* has quick_gelu"):
            load_bundle(trained["wrong"], quick[how])
    assert load_bundle(trained["wrong"], quick["wrong"]).version == 1


def test_a_folder_s_bundle_that_tells_no_activation_is_served_by_the_same_weights(bundle, backbone):
    assert read_meta(bundle)["backbone"]["activation"] == "gelu"
    assert read_meta(bundle)["backbone"]["checksum"] == backbone.checksum
    assert load_bundle(as_before(bundle), backbone).version == 1


def test_another_preprocessing_is_refused_naming_what_differs(bundle, backbone):
    foreign = replace(backbone, preprocessing=replace(backbone.preprocessing, mean=(0.1, 0.2, 0.3)))
    with pytest.raises(BundleError, match=r"preprocessing 'mean' = .*0\.1, 0\.2, 0\.3"):
        load_bundle(bundle, foreign)
    change_meta(bundle, lambda meta: meta["preprocessing"].pop("drop_empty"))
    with pytest.raises(BundleError, match="preprocessing 'drop_empty' = None"):
        load_bundle(bundle, backbone)


def test_views_of_another_projection_are_refused_naming_what_differs(bundle, backbone):
    key = next(iter(read_meta(bundle)["views"]))
    change_meta(bundle, lambda meta: meta["views"].update({key: "other"}))
    with pytest.raises(BundleError, match=f"views '{key}' = 'other'"):
        load_bundle(bundle, backbone)


# A spoilt description


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format=1), "of format 1, but this version reads format 3"),
        (lambda m: m.pop("format"), "of format None"),
        (lambda m: m.update(format=True), "of format True, but"),
        (lambda m: m.update(format=3.0), "'format' .* is float"),
        (lambda m: m.pop("temperature"), "lacks 'temperature'"),
        (lambda m: m.update(colour="red", age=3), "has unknown 'age', 'colour'"),
        (lambda m: m.update(version="1"), "'version' .* is str"),
        (lambda m: m.update(version=True), "'version' .* is bool"),
        (lambda m: m.update(version=0), "versions are 1 to 2147483647"),
        (lambda m: m.update(version=2**31), "versions are 1 to 2147483647"),
        (lambda m: m.update(temperature=float("nan")), "must lie between 0.001 and 1000"),
        (lambda m: m.update(temperature=0), "must lie between 0.001 and 1000"),
        (lambda m: m["backbone"].update(checksum="0" * 64), "checksum 000000000000…, but"),
        (lambda m: m["backbone"].update(activation="tanh"), "with activation 'tanh', but .* has gelu"),
        (lambda m: m["backbone"].update(activation=[1] * 10**5), "with activation"),
        (lambda m: m["backbone"].pop("checksum"), "'backbone' .* has no 'checksum' of the right type"),
        (lambda m: m["backbone"].update(name=5), "'backbone' .* has no 'name' of the right type"),
        (lambda m: m["backbone"].pop("pretrained"), "'backbone' .* has no 'pretrained' of the right type"),
        (lambda m: m["network"].pop("rank"), "'network' with rank missing"),
        (lambda m: m["network"].update(depth=2), "'network' with depth missing, unknown"),
        (lambda m: m["network"].update(rank=4.5), "'network' with rank missing"),
        (lambda m: m["network"].update(rank=10**9), "rank must be 1 to 256"),
        (lambda m: m["network"].update(variant="X"), "variant 'X' is none of"),
        (lambda m: m["network"].update(heads=0), "heads and points must be at least 1, but are 0 and 1024"),
        (lambda m: m["network"].update(points=0), "heads and points must be at least 1, but are 8 and 0"),
        (lambda m: m["network"].pop("points"), "'network' with points missing"),
        (lambda m: m["network"].update(points=10**9), "points must be at most 65536"),
        (lambda m: m["network"].update(rank=True), "'network' with rank missing, unknown or of another type"),
        (lambda m: m["network"].update(variant=3), "'network' with variant missing, unknown or of another type"),
        (lambda m: m["network"].update(alpha=10**400), "'network' with alpha missing, unknown or of another type"),
        (lambda m: m.update(parent=-1), "'parent' .* is -1; it is a version"),
        (lambda m: m.update(parent=10**4000), "'parent' .* is 1000"),
        (lambda m: m.update(template="{class} {description}" * 1000), "at most 300 printable"),
        (lambda m: m.update(descriptions=[["half a \ud800"], [], []]), "surrogates not allowed"),
        (lambda m: m["network"].update(heads=7), "cannot be shared by 7 attention heads"),
        (lambda m: m["network"].update(context=10**6), "context must be 0 to 16"),
        (lambda m: m["network"].update(alpha=float("inf")), "is not finite"),
        (lambda m: m.update(classes=["mug"]), "as many lists of descriptions"),
        (lambda m: m.update(classes=["mug", "mug", "tin"]), "names mug twice"),
        (lambda m: m.update(classes=["mug", {}, "tin"]), "a class is a name"),
        (lambda m: m.update(descriptions=[["a"], [1], []]), "as many lists of descriptions"),
        (lambda m: m.update(template="a"), "'template'"),
    ],
)
def test_a_spoilt_description_is_refused_naming_what_is_wrong(bundle, backbone, change, said):
    change_meta(bundle, change)
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle, backbone)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ('{"format": 2', "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ('{"format": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"format": 2, "classes": ["\\ud800"]}', "is not JSON: .* surrogates not allowed"),
        ("[]", "format 'list'"),
        ("null", "format 'NoneType'"),
        ('{"format": 2, "training": "' + "x" * (5 << 20) + '"}', "a bundle's description has at most 4194304"),
    ],
    ids=["empty", "cut", "deep", "long number", "half a pair", "list", "null", "huge"],
)
def test_what_is_no_description_is_refused(bundle, backbone, text, said):
    (bundle / META_FILE).write_text(text)
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle, backbone)


def test_a_description_in_another_encoding_is_refused(bundle, backbone):
    (bundle / META_FILE).write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(BundleError, match="is not JSON"):
        load_bundle(bundle, backbone)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format="x" * 10**6),
        lambda m: m.update(**{"x" * 10**6: 1}),
        lambda m: m.update(**{f"x{i}": 1 for i in range(10**5)}),
        lambda m: m.update(version=10**4000),
        lambda m: m.update(temperature=10**4000),
        lambda m: m["backbone"].update(name="x" * 10**6, checksum="y" * 10**6),
        lambda m: m["preprocessing"].update(size="x" * 10**6),
        lambda m: m["network"].update(**{f"{i}{'x' * 1000}": 1 for i in range(1000)}),
    ],
)
def test_a_refusal_does_not_repeat_what_a_hostile_writer_wrote(bundle, backbone, change):
    change_meta(bundle, change)
    with pytest.raises(BundleError) as refused:
        load_bundle(bundle, backbone)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("file", [META_FILE, WEIGHTS_FILE])
def test_a_bundle_with_a_link_in_it_is_refused(bundle, backbone, tmp_path, file):
    """What the link means could be a file that only the robot's user may read."""
    secret = tmp_path / "elsewhere"
    (bundle / file).rename(secret)
    (bundle / file).symlink_to(secret)
    with pytest.raises(BundleError, match=f"{file} is a link"):
        load_bundle(bundle, backbone)


def test_names_that_no_disk_has_are_no_bundles(backbone):
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(BundleError):
            load_bundle(name, backbone)


# Spoilt weights


def first(tensors, ending="up"):
    return next(name for name in sorted(tensors) if name.endswith(ending))


def put(tensors, name, value):
    tensors[name] = value


def spoil(tensors, change):
    """Replace some of the statistics, or remove those whose value is None."""
    for name, value in change.items():
        tensors.pop(f"statistics.{name}")
        if value is not None:
            tensors[f"statistics.{name}"] = value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(first(t)), r"the adapter lacks model\..*up"),
        (lambda t: put(t, "adapter.model.extra", torch.zeros(2)), r"has unknown model\.extra"),
        (lambda t: put(t, "model.extra", torch.zeros(2)), r"unknown tensors model\.extra"),
        (lambda t: put(t, "mean", torch.zeros(2)), "unknown tensors mean"),
        (lambda t: put(t, "statistics.median", torch.zeros(2)), r"unknown tensors statistics\.median"),
        (
            lambda t: put(t, first(t), t[first(t)][:, :1].clone()),
            r"up of the adapter is \(\d+, 1\), but",
        ),
        (lambda t: t[first(t)].fill_(torch.nan), "up of the adapter has values that are not finite"),
        (lambda t: t[first(t, "running_var")].fill_(torch.inf), "running_var of the adapter has values"),
        (lambda t: t[first(t, "running_var")].fill_(-1), "its answer to a view is not finite"),
        (lambda t: t[first(t)].fill_(3e38), "is not finite, so its weights are damaged"),
        (lambda t: put(t, first(t), t[first(t)].to(torch.complex64)), r"is torch\.complex64; a bundle's weights"),
        (lambda t: put(t, first(t), t[first(t)].to(torch.float8_e4m3fn)), r"is torch\.float8_e4m3fn"),
        (lambda t: put(t, "statistics.variance", torch.zeros(3, 32)), r"unknown tensors statistics\.variance"),
    ],
)
def test_spoilt_weights_are_refused_naming_what_is_wrong(bundle, backbone, change, said):
    change_weights(bundle, change)
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle, backbone)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *[
            ({name: None}, f"statistics '{name}' is missing, but must be finite and")
            for name in vars(told_statistics())
        ],
        ({"mean": torch.zeros(2, 32)}, r"statistics 'mean' is \(2, 32\), but must be finite and \(3, 32\)"),
        ({"mean": torch.zeros(3, 16)}, r"statistics 'mean' is \(3, 16\), but must be finite and \(3, 32\)"),
        ({"covariance": torch.ones(3, 32)}, r"statistics 'covariance' is \(3, 32\), but .* \(32, 32\)"),
        ({"count": torch.ones(3, 1)}, r"statistics 'count' is \(3, 1\), but .* \(3,\)"),
        ({"weights": torch.ones(3)}, r"statistics 'weights' is \(3,\), but .* \(2,\)"),
        *[
            ({name: torch.full_like(value, torch.nan)}, f"statistics '{name}' is .* must be finite")
            for name, value in vars(told_statistics()).items()
        ],
        ({"mean": torch.full((3, 32), torch.inf)}, "statistics 'mean' is .* must be finite"),
        ({"covariance": -torch.eye(32)}, "statistics with negative variances, weights or counts; train it again"),
        ({"covariance": torch.ones(32, 32) - torch.eye(32)}, "statistics with negative variances"),
        ({"covariance": torch.eye(32) + torch.ones(32, 32).triu(1)}, "covariance is not symmetric"),
        ({"covariance": torch.eye(32) * 3e38}, "statistics beyond 1e\\+06"),
        ({"weights": torch.tensor([1.0, -0.1])}, "statistics with negative variances, weights or counts"),
        ({"count": torch.tensor([4.0, -1.0, 2.0])}, "statistics with negative variances, weights or counts"),
        ({"known": torch.tensor([1.5])}, r"statistics 'known' is 1\.5, but a share is in \[0, 1\]"),
    ],
)
def test_spoilt_statistics_are_refused_naming_what_is_wrong(tmp_path, backbone, change, said):
    bundle = small_bundle(tmp_path / "adapter", backbone, statistics=told_statistics())
    assert load_bundle(bundle, backbone).statistics is not None
    change_weights(bundle, lambda tensors: spoil(tensors, change))
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle, backbone)


def test_statistics_in_half_precision_are_served_in_single(tmp_path, backbone):
    told = replace(told_statistics(), covariance=torch.eye(32))
    bundle = small_bundle(tmp_path / "adapter", backbone, statistics=told)
    change_weights(bundle, lambda t: t.update({n: v.half() for n, v in t.items() if n.startswith("statistics.")}))
    loaded = load_bundle(bundle, backbone).statistics
    for name, value in vars(told).items():
        assert getattr(loaded, name).dtype == torch.float32
        torch.testing.assert_close(getattr(loaded, name), value, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.001, 0.1, 0.5, 0.9, 0.99999])
def test_weights_cut_anywhere_are_refused(bundle, backbone, share):
    path = bundle / WEIGHTS_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BundleError, match="truncated or no safetensors file"):
        load_bundle(bundle, backbone)
    path.write_bytes(content + b"\0")
    with pytest.raises(BundleError, match="truncated or no safetensors file"):
        load_bundle(bundle, backbone)


HEADERS = {
    "a table of contents of a terabyte": ((1 << 40).to_bytes(8, "little") + b"{}", "header claims 1099511627776 bytes"),
    "one of sixteen megabytes": ((1 << 24).to_bytes(8, "little") + b" " * (1 << 24), "header claims 16777216 bytes"),
    "nothing": (b"", "truncated or no safetensors"),
    "a number format of tomorrow": (
        (len(SIXES)).to_bytes(8, "little") + SIXES + b"\0" * 3,
        r"truncated or no safetensors|a bundle's weights are torch.float32",
    ),
    "tensors beyond the file": (
        (len(BEYOND)).to_bytes(8, "little") + BEYOND,
        "truncated or no safetensors",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_table_of_contents_is_refused(bundle, backbone, name):
    content, said = HEADERS[name]
    (bundle / WEIGHTS_FILE).write_bytes(content)
    change_meta(bundle, lambda m: m.update(weights=file_checksum(bundle / WEIGHTS_FILE)))
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle, backbone)


def test_a_bundle_without_weights_was_not_written_whole(bundle, backbone):
    (bundle / WEIGHTS_FILE).unlink()
    with pytest.raises(BundleError, match="it was not written whole"):
        load_bundle(bundle, backbone)


def test_a_refused_bundle_leaves_the_backbone_as_it_was(bundle, backbone):
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    change_weights(bundle, lambda t: t[first(t)].fill_(3e38))
    with pytest.raises(BundleError):
        load_bundle(bundle, backbone)
    after = backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(before) == list(after)


# Places


@pytest.mark.parametrize("place", ["nowhere", "file", "empty"])
def test_what_is_no_bundle_is_refused_in_words(tmp_path, backbone, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=f"{place}' is no bundle: it has no bundle.json"):
        load_bundle(tmp_path / place, backbone)


def test_saving_again_replaces_the_bundle_and_leaves_nothing_else(tmp_path, backbone):
    for version in (1, 2, 3):
        folder = small_bundle(tmp_path / "adapter", backbone, version=version, seed=version)
        assert load_bundle(folder, backbone).version == version
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_link_to_a_bundle_stays_a_link(tmp_path, backbone):
    (tmp_path / "disk").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "disk")
    for version in (1, 2, 3):
        small_bundle(tmp_path / "latest", backbone, version=version)
        assert load_bundle(tmp_path / "disk", backbone).version == version
    assert (tmp_path / "latest").is_symlink()
    (tmp_path / "disk").rename(tmp_path / ".disk.previous")  # as a writer killed between two renames leaves it
    assert load_bundle(tmp_path / "latest", backbone).version == 3
    (tmp_path / ".disk.previous").rename(tmp_path / "disk")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "latest"]


class Killed(BaseException):
    """The end of the process, as far as a test can play it."""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_killed_while_saving_leaves_a_whole_bundle(tmp_path, backbone, monkeypatch, renames):
    """Killed before, between and after the renames: the old one loads until the new one has its name."""
    folder = small_bundle(tmp_path / "adapter", backbone, version=1)
    rename, done = Path.rename, []

    def dying(self, target):
        if len(done) == renames:
            raise Killed
        done.append(target)
        result = rename(self, target)
        if len(done) == renames == 2:
            raise Killed
        return result

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(Killed):
        small_bundle(folder, backbone, version=2, seed=1)
    monkeypatch.undo()
    assert load_bundle(folder, backbone).version == (2 if renames == 2 else 1)
    small_bundle(folder, backbone, version=3)
    assert load_bundle(folder, backbone).version == 3
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_killed_while_writing_the_weights_leaves_the_old_bundle(tmp_path, backbone, monkeypatch):
    folder = small_bundle(tmp_path / "adapter", backbone, version=1)

    def dying(tensors, path):
        path.write_bytes(b"half")
        raise Killed

    monkeypatch.setattr("clipoint3d_ros.clip.bundle.save_file", dying)
    with pytest.raises(Killed):
        small_bundle(folder, backbone, version=2)
    assert load_bundle(folder, backbone).version == 1


def test_a_bundle_replaced_while_it_is_read_is_never_mixed_with_the_new_one(tmp_path, backbone, monkeypatch):
    from clipoint3d_ros.clip import bundle

    folder = small_bundle(tmp_path / "adapter", backbone, version=1)
    read = bundle._read_tensors

    def after_a_save(path):
        small_bundle(folder, backbone, version=2, seed=1)
        return read(path)

    monkeypatch.setattr(bundle, "_read_tensors", after_a_save)
    with pytest.raises(BundleError, match="replaced while being read"):
        load_bundle(folder, backbone)


def test_a_folder_of_other_things_is_never_replaced(tmp_path, backbone):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(BundleError, match=r"is no bundle and holds thesis\.tex"):
        small_bundle(tmp_path, backbone)
    with pytest.raises(BundleError, match="is no bundle and holds a file's content"):
        small_bundle(tmp_path / "thesis.tex", backbone)
    assert (tmp_path / "thesis.tex").read_text() == "years"
    (tmp_path / "empty").mkdir()
    assert load_bundle(small_bundle(tmp_path / "empty", backbone), backbone).version == 1


def test_classes_of_any_number_are_served_by_one_adapter(original, backbone):
    network = load_bundle(original, backbone).network
    names = [f"thing {i}" for i in range(20)]
    text = network.text(class_prompts(backbone, describe(names), network.config.context))
    assert text.shape == (20, 32)
    assert torch.allclose(text.norm(dim=-1), torch.ones(20), atol=1e-5)


def test_one_flipped_bit_of_the_weights_is_noticed(tmp_path, backbone):
    folder = small_bundle(tmp_path / "adapter", backbone)
    weights = bytearray((folder / WEIGHTS_FILE).read_bytes())
    weights[-3] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(bytes(weights))
    with pytest.raises(BundleError, match="is damaged"):
        load_bundle(folder, backbone)
