"""The network: where it starts, what it trains, how often it asks its towers, and what an adapter carries."""

import pytest
import torch

from clipoint3d_ros.clip import network as network_module
from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.clip.network import VARIANTS, Network, NetworkConfig
from clipoint3d_ros.clip.peft import TUNINGS
from clipoint3d_ros.clip.text import class_features, class_prompts
from clipoint3d_ros.geometry.clouds import resample

NAMES = ["mug", "box", "tin", "remote control", "bowl"]
TOWERS = {"T": ("model.transformer.", "model.ln_final."), "V": ("model.visual.",)}
TOWERS["B"] = TOWERS["T"] + TOWERS["V"]
TUNED = {
    "lora": lambda name: name.endswith((".down", ".up")),
    "bitfit": lambda name: name.endswith("bias"),
    "layernorm": lambda name: "ln_" in name,
    "none": lambda name: False,
}
# An object is one key, so its attention has no choice, and the norm of what asks cannot matter.
WITHOUT_EFFECT = {f"prompts.vision.attention.norm_query.{part}" for part in ("weight", "bias")}


@pytest.fixture(scope="module")
def frozen(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


def made(frozen, *config, seed=0, step=0.0, **more):
    """A network, with every trained parameter moved by random steps off where it began."""
    torch.manual_seed(seed)
    network = Network(frozen, NetworkConfig(*config, **{"rank": 4, **more}))
    with torch.no_grad():
        for parameter in network.trained().values():
            parameter += step * torch.randn(parameter.shape)
    return network.eval()


def clouds(count=3, points=24, seed=1):
    return torch.rand(count, points, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


def views(count, seed=2):
    return torch.rand(count, 32, 32, generator=torch.Generator().manual_seed(seed))


def classes_of(frozen, network, names=NAMES):
    return class_prompts(frozen, describe(names), network.config.context)


def answers(network, classes, count=3, each=2):
    """Text features, the alignment, and embeddings of `each` views of `count` clouds."""
    prompts, alignment = network.visual_prompts(clouds(count))
    rows = None if prompts is None else prompts.repeat_interleave(each, 0)
    seen = network.views(views(count * each), rows, torch.full((count * each, 3), 0.1))
    return [x for x in (network.text(classes), alignment, seen) if x is not None]


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_unchanged(network, before):
    after = network.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(after[name], value)]
    assert not changed, f"changed although the adapter was refused: {changed}"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("context", [0, 1, 4, 7])
def test_before_training_classes_are_what_the_frozen_model_says_of_them(context, training, frozen):
    network = made(frozen, "B", "lora", context=context).train(training)
    features = network.text(classes_of(frozen, network))
    difference = (features - class_features(frozen, describe(NAMES))).abs().max()
    assert difference < 1e-6, f"with a context of {context} the untrained classes are off by {difference:.1e}"
    assert (features.norm(dim=-1) - 1).abs().max() < 1e-5, "class features are no unit vectors"


def test_before_training_views_without_prompts_are_the_frozen_models(frozen):
    for variant in VARIANTS:
        network = made(frozen, variant, "lora", context=0)
        assert network.visual_prompts(clouds()) == (None, None), "a context of 0 makes prompts"
        difference = (network.views(views(4), None, None) - frozen.encode_views(views(4))).abs().max()
        assert difference < 1e-6, f"untrained views of variant {variant} are off by {difference:.1e}"


COMBINATIONS = [(variant, tuning, 4) for variant in VARIANTS for tuning in TUNINGS]
WITHOUT_PROMPTS = [("B", "lora", 0), ("T", "bitfit", 0), ("V", "layernorm", 0)]


@pytest.mark.parametrize(("variant", "tuning", "context"), COMBINATIONS + WITHOUT_PROMPTS)
def test_a_loss_reaches_all_that_is_trained_and_nothing_else(variant, tuning, context, frozen):
    network = made(frozen, variant, tuning, context=context, step=0.05).train()
    named = dict(network.named_parameters())
    wanted = {n for n in named if n.startswith(TOWERS[variant]) and TUNED[tuning](n)}
    wanted |= {n for n in named if n.startswith(("prompts.", "points."))}
    trained = set(network.trained())
    assert trained == wanted, f"trained but not asked for: {trained - wanted}; the other way: {wanted - trained}"
    generator = torch.Generator().manual_seed(3)
    said = answers(network, classes_of(frozen, network))
    sum((x * torch.randn(x.shape, generator=generator)).sum() for x in said).backward()
    reached = {n for n, p in named.items() if p.grad is not None}
    assert reached == trained, f"unreached: {sorted(trained - reached)}; reached too: {sorted(reached - trained)}"
    moved = {n for n in reached if torch.isfinite(named[n].grad).all() and named[n].grad.abs().max() > 0}
    vain = trained - moved - WITHOUT_EFFECT
    assert not vain, f"a gradient of zero, or not finite, is all that reaches {sorted(vain)}"
    foreign = [n for n, p in frozen.model.named_parameters() if p.grad is not None or p.requires_grad]
    assert not foreign, f"the frozen backbone is trained at {foreign}"


def test_all_but_the_tuned_towers_is_the_frozen_models_own_memory(frozen):
    own = {p.data_ptr() for p in frozen.model.parameters()}
    for variant in VARIANTS:
        network = made(frozen, variant, "lora")
        for name, parameter in network.model.named_parameters(prefix="model"):
            shared = parameter.data_ptr() in own
            assert shared is not name.startswith(TOWERS[variant]), f"{name} of variant {variant}: shared is {shared}"


def test_text_is_encoded_once_and_views_together_for_many_objects(frozen, monkeypatch):
    network = made(frozen, "B", "lora", step=0.05)
    classes = classes_of(frozen, network)
    calls = []

    def count(owner, name):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: calls.append(name) or real(*a, **k))

    count(network_module, "encode_words")
    count(tower, "forward")
    count(tower, "block")
    network.points.register_forward_hook(lambda *_: calls.append("points"))
    network.prompts.text.register_forward_hook(lambda *_: calls.append("context"))
    network.prompts.vision.register_forward_hook(lambda *_: calls.append("visual"))
    for objects in (1, 30):
        calls.clear()
        text, _, seen = answers(network, classes, count=objects, each=4)
        assert text.shape == (5, 32), f"text features of 5 classes are {tuple(text.shape)}"
        assert seen.shape == (4 * objects, 32), f"4 views of {objects} objects are {tuple(seen.shape)}"
        counted = {name: calls.count(name) for name in calls}
        once = {"encode_words": 1, "forward": 1, "points": 1, "context": 1, "visual": 1}
        assert counted == {**once, "block": 1 + 2}, f"{objects} objects take {counted}"


def test_classes_do_not_depend_on_objects_and_views_not_on_classes(frozen):
    network = made(frozen, "B", "lora", step=0.05)
    classes = classes_of(frozen, network)
    text = network.text(classes)
    prompts, _ = network.visual_prompts(clouds())
    seen = network.views(views(3), prompts, None)
    assert torch.equal(network.text(classes), text), "classes are others after objects were seen"
    network.text(classes_of(frozen, network, ["lamp"]))
    assert torch.equal(network.views(views(3), prompts, None), seen), "views are others after classes were said"


def test_an_objects_geometry_changes_its_views(frozen):
    network = made(frozen, "B", "lora", step=0.05)
    prompts, _ = network.visual_prompts(clouds(2))
    same = views(1).expand(2, -1, -1)
    first, second = network.views(same, prompts, None)
    assert (first - second).abs().max() > 1e-4, "two clouds with the same picture have the same embedding"


def test_one_network_serves_any_classes(frozen):
    network = made(frozen, "B", "lora", step=0.05)
    for names in (NAMES, ["mug"], ["desk lamp", "mug"]):
        features = network.text(classes_of(frozen, network, names))
        assert features.shape == (len(names), 32), f"{len(names)} classes have features {tuple(features.shape)}"
        assert torch.isfinite(features).all(), f"features of {names} are not finite"
        assert (features.norm(dim=-1) - 1).abs().max() < 1e-5, f"features of {names} are no unit vectors"
        moved = (features - class_features(frozen, describe(names))).abs().max()
        assert moved > 1e-4, f"what was trained does not touch {names}"


def test_the_learned_context_takes_the_place_of_the_context_alone(frozen, monkeypatch):
    network = made(frozen, "T", "none", step=0.05)
    classes = classes_of(frozen, network)
    given = {}
    real = network_module.encode_words
    monkeypatch.setattr(
        network_module, "encode_words", lambda m, words, end: given.update(words=words, end=end) or real(m, words, end)
    )
    network.text(classes)
    step = given["words"] - classes.words
    outside = torch.cat([step[:, :1], step[:, 5:]], 1)
    assert not outside.any(), "the start, the name or the end has moved"
    assert step[:, 1:5].abs().amax(-1).min() > 0, "a word of the context has not moved"
    assert (step[:, 1:5] - step[:1, 1:5]).abs().max() < 1e-5, "the context is not common to all classes"
    assert torch.equal(given["end"], classes.end), "the end has moved"


@pytest.mark.parametrize(("variant", "tuning"), [("B", "lora"), ("T", "bitfit"), ("V", "layernorm"), ("B", "none")])
def test_an_adapter_carries_all_that_training_made(variant, tuning, frozen):
    trained = made(frozen, variant, tuning, seed=0, step=0.05)
    trained.train().points(clouds(seed=8))
    trained.eval()
    other = made(frozen, variant, tuning, seed=1, step=0.05)
    classes = classes_of(frozen, trained)
    differ = [(a - b).abs().max() for a, b in zip(answers(trained, classes), answers(other, classes), strict=True)]
    assert min(differ) > 1e-4, "the two networks agree before the round trip, which then shows nothing"
    adapter = trained.adapter()
    assert not any(value.requires_grad for value in adapter.values()), "an adapter still carries gradients"
    buffers = {f"points.{name}" for name, _ in trained.points.named_buffers()}
    assert set(adapter) == set(trained.trained()) | buffers, "an adapter keeps other things than what was trained"
    other.load_adapter({name: value.clone() for name, value in adapter.items()})
    for a, b in zip(answers(trained, classes), answers(other, classes), strict=True):
        assert torch.equal(a, b), f"{variant} with {tuning} answers otherwise after the round trip"


def without(adapter, name):
    return {n: v for n, v in adapter.items() if n != name}


DAMAGE = {
    "missing": (lambda a: without(a, "prompts.query"), r"lacks prompts\.query \(1 of \d+\)"),
    "missing statistics": (
        lambda a: without(a, "points.first.1.running_mean"),
        r"lacks points\.first\.1\.running_mean",
    ),
    "empty": (lambda a: {}, r"the adapter lacks .* \((\d+) of \1\)"),
    "unknown": (lambda a: {**a, "prompts.answer": torch.zeros(3)}, r"has unknown prompts\.answer \(1 of \d+\)"),
    "frozen": (lambda a: {**a, "model.logit_scale": torch.zeros(())}, r"has unknown model\.logit_scale"),
    "misshaped": (
        lambda a: {**a, "prompts.query": torch.zeros(5, 32)},
        r"prompts\.query of the adapter is \(5, 32\), but this network's is \(4, 32\)",
    ),
    "broadcastable": (lambda a: {**a, "prompts.query": torch.zeros(1, 32)}, r"prompts\.query of the adapter is \(1, 3"),
    "nan": (lambda a: {**a, "points.cloud.3.bias": torch.full((32,), torch.nan)}, r"points\.cloud\.3\.bias .*finite"),
    "infinite": (lambda a: {**a, "prompts.query": torch.full((4, 32), torch.inf)}, r"prompts\.query .*not finite"),
    "infinite statistics": (
        lambda a: {**a, "points.cloud.1.running_var": torch.full((256,), torch.inf)},
        r"points\.cloud\.1\.running_var .*not finite",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_adapter_is_refused_by_name_and_changes_nothing(damage, frozen):
    spoil, words = DAMAGE[damage]
    adapter = spoil({name: value.clone() for name, value in made(frozen, "B", seed=1, step=0.05).adapter().items()})
    network = made(frozen, "B", step=0.05)
    before = snapshot(network)
    with pytest.raises(ValueError, match=words):
        network.load_adapter(adapter)
    assert_unchanged(network, before)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"variant": "T"}, "lacks model.visual"),
        ({"tuning": "none"}, "lacks model"),
        ({"rank": 8}, r"\(8, \d+\), but this network's is \(4, \d+\)"),
        ({"context": 2}, r"prompts.query of the adapter is \(2, 32\)"),
        ({"context": 0}, "lacks points"),
    ],
)
def test_an_adapter_of_another_configuration_is_refused(other, words, frozen):
    network = made(frozen, step=0.05)
    before = snapshot(network)
    with pytest.raises(ValueError, match=words):
        network.load_adapter(made(frozen, **other, step=0.05).adapter())
    assert_unchanged(network, before)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"variant": "X"}, "variant 'X' is none of T, V, B"),
        ({"tuning": "prefix"}, "tuning 'prefix' is none of lora"),
        ({"rank": 0}, "rank must be"),
        ({"alpha": 0.0}, "alpha above 0"),
        ({"alpha": float("nan")}, "alpha above 0"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ({"context": 17}, "context must be 0 to 16 tokens, but is 17"),
        ({"heads": 0}, "heads and points must be at least 1, but are 0 and 1024"),
        ({"points": 0}, "heads and points must be at least 1, but are 8 and 0"),
    ],
)
def test_configurations_that_make_no_sense_are_refused_in_words(config, words):
    with pytest.raises(ValueError, match=words):
        NetworkConfig(**config)


def test_heads_that_do_not_share_the_width_are_refused_before_anything_is_built(frozen):
    with pytest.raises(ValueError, match="32 channels cannot be shared by 5 attention heads"):
        Network(frozen, NetworkConfig(heads=5))


def test_visual_prompts_that_say_nothing_yet_are_seen_in_training_only(frozen):
    network = Network(frozen, NetworkConfig(rank=2))
    cloud = torch.randn(2, 32, 3, generator=torch.Generator().manual_seed(0))
    assert network.train().visual_prompts(cloud)[0] is not None, "or no gradient would ever reach them"
    assert network.eval().visual_prompts(cloud)[0] is None
    with torch.no_grad():
        network.prompts.vision.project.bias[0] = 0.1
    assert network.visual_prompts(cloud)[0] is not None


# What the point encoder sees


def seen_points(network, points):
    """What of (B, N, 3) clouds reaches the point encoder."""
    given = []
    hook = network.points.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0].clone()))
    network.visual_prompts(points)
    hook.remove()
    (seen,) = given
    return seen


@pytest.mark.parametrize(("size", "points"), [(64, 16), (64, 24), (65, 64), (24, 24), (24, 1)])
def test_the_point_encoder_sees_the_same_evenly_strided_points_in_training_and_in_use(frozen, size, points):
    network = made(frozen, points=points, step=0.05)
    cloud = clouds(2, size)
    in_use, in_training = seen_points(network.eval(), cloud), seen_points(network.train(), cloud)
    assert torch.equal(in_use, in_training)
    rows = [next(i for i in range(size) if torch.equal(cloud[0, i], point)) for point in in_use[0]]
    assert in_use.shape == (2, points, 3)
    assert torch.equal(in_use, cloud[:, rows]), "clouds of one batch are not seen alike"
    gaps = [after - before for before, after in zip([*rows], [*rows[1:], size], strict=True)]
    assert rows[0] == 0
    assert max(gaps) - min(gaps) <= 1, f"the rows {rows} are not even"


@pytest.mark.parametrize("size", [1, 10, 24])
def test_of_a_cloud_of_few_points_the_point_encoder_sees_all(frozen, size):
    network = made(frozen, points=24, step=0.05)
    cloud = clouds(2, size)
    assert torch.equal(seen_points(network, cloud), cloud)


@pytest.mark.parametrize("size", [16, 24, 40, 100])
def test_a_small_clouds_repeated_points_do_not_crowd_the_others_out(frozen, size):
    network = made(frozen, points=128, step=0.05)
    cloud = torch.rand(size, 3, generator=torch.Generator().manual_seed(0)).numpy()
    seen = seen_points(network, resample([cloud], 1024))[0]
    assert len(seen.unique(dim=0)) == size, "some of the object's points are never seen"


def test_fewer_points_than_the_cloud_has_are_another_answer_than_all_of_them(frozen):
    few, all_of_them = (made(frozen, points=points, step=0.05) for points in (16, 64))
    one, other = (network.visual_prompts(clouds(2, 64))[0] for network in (few, all_of_them))
    assert (one - other).abs().max() > 1e-4
    assert torch.equal(few.visual_prompts(clouds(2, 64)[:, ::4])[0], one)


# A network that trains nothing


def test_a_network_of_no_tuning_and_no_context_is_the_frozen_model_itself(frozen):
    config = NetworkConfig(tuning="none", context=0)
    network = Network(frozen, config)
    assert config.frozen
    assert not NetworkConfig(tuning="none").frozen
    assert not NetworkConfig(context=0).frozen
    assert network.trained() == {}
    assert network.adapter() == {}
    assert torch.equal(network.merged().views(views(2), None, None), frozen.encode_views(views(2)))
    said = network.text(classes_of(frozen, network))
    torch.testing.assert_close(said, class_features(frozen, describe(NAMES)), atol=1e-6, rtol=0)
    own = {p.data_ptr() for p in frozen.model.parameters()}
    assert {p.data_ptr() for p in network.merged().parameters()} <= own, "it has weights of its own"
