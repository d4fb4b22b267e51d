"""The vision tower as ONNX: written for other runtimes, and served by ONNX Runtime in torch's place.

What is written is the tower as it is served: LoRA merged into its weights, preprocessing, size token, empty patches and
the unit length of its answers inside. Views in, embeddings out, as many views as there are (`views` is a dynamic axis):
objects times views, so any number of objects. Empty patches are left out by masking them as keys: a graph of fixed
lengths has no shorter sequences.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.backbone import Backbone

RUNTIMES = ("torch", "onnxruntime")
TOLERANCE = 1e-4  # of a unit embedding's numbers, between float32 runtimes
OPSET = 18
_KEPT_FILES = 4  # in the cache; a live adapter makes a new one now and then

_log = logging.getLogger(__name__)


class MissingRuntime(ImportError, ValueError):
    """ONNX or ONNX Runtime is not installed; the message says what to install."""


class ServedTower(nn.Module):
    """A backbone's `encode_views` as a graph of fixed form.

    Its inputs are `input_names`: views (M, S, S) at the tower's own size; extents (M, 3) metres where the tower has a
    size token; prompts (M, K, W) where `prompts` is above 0.
    """

    def __init__(self, backbone: Backbone, prompts: int = 0) -> None:
        super().__init__()
        self.visual, self.preprocessing, self.prompts = backbone.visual, backbone.preprocessing, prompts
        self.sized = getattr(backbone.visual, "size_token", None) is not None

    @property
    def input_names(self) -> list[str]:
        return ["views", *["extents"] * self.sized, *["prompts"] * (self.prompts > 0)]

    def examples(self, views: int = 2) -> tuple[Tensor, ...]:
        """Inputs of that many views, to trace and to warm up with."""
        size, device = self.preprocessing.size, self.visual.class_embedding.device
        made = {
            "views": torch.rand(views, size, size, device=device),
            "extents": torch.full((views, 3), 0.1, device=device),
            "prompts": torch.zeros(views, self.prompts, len(self.visual.class_embedding), device=device),
        }
        return tuple(made[name] for name in self.input_names)

    def forward(self, views: Tensor, *others: Tensor) -> Tensor:
        """(M, D) unit embeddings."""
        given = dict(zip(self.input_names[1:], others, strict=True))
        visual = self.visual
        tokens = visual.conv1(self.preprocessing(views)).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
        start = (visual.class_embedding + visual.positional_embedding[0]).expand(views.shape[0], 1, -1)
        extra = [visual.size_token(given["extents"])] if self.sized else []
        extra += [given["prompts"]] if self.prompts else []
        sequence = visual.ln_pre(torch.cat([start, tokens, *extra], 1))
        occupied = self._occupied(views, tokens)
        bias = self._bias(occupied, sum(part.shape[1] for part in extra))
        for layer in visual.transformer.resblocks:
            sequence = tower.block(layer, sequence, bias)
        pooled = self._pooled(sequence, occupied, tokens.shape[1])
        return F.normalize(pooled if visual.proj is None else pooled @ visual.proj, dim=-1)

    def _occupied(self, views: Tensor, tokens: Tensor) -> Tensor:
        """(M, P) float: 1 where a patch takes part."""
        if not self.preprocessing.drop_empty:
            return torch.ones_like(tokens[..., 0])
        return tower.patch_occupancy(views, self.visual.patch_size[0]).to(tokens.dtype)

    def _bias(self, occupied: Tensor, extra: int) -> Tensor | None:
        """(M, 1, 1, L) added to attention scores: very low where a patch is empty. TensorRT's fp16 takes no −∞."""
        if not self.preprocessing.drop_empty:
            return None
        return (F.pad(occupied, (1, extra), value=1.0) - 1)[:, None, None] * 1e4

    def _pooled(self, sequence: Tensor, occupied: Tensor, patches: int) -> Tensor:
        visual = self.visual
        if not visual.final_ln_after_pool:
            sequence = visual.ln_post(sequence)
        if visual.pool_type == "avg":
            weights = occupied / occupied.sum(1, keepdim=True).clamp_min(1)
            pooled = (sequence[:, 1 : 1 + patches] * weights[..., None]).sum(1)
        else:
            pooled = sequence[:, 0]
        return visual.ln_post(pooled) if visual.final_ln_after_pool else pooled


def write_onnx(backbone: Backbone, path: Path, prompts: int = 0) -> ServedTower:
    """Write a backbone's tower as one ONNX file.

    Args:
        backbone: as it is served, an adapter's with LoRA merged.
        path: of the file; replaced whole.
        prompts: K visual prompts of an object, 0 where there are none.

    Raises:
        MissingRuntime: the exporter's packages are not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter writes with it
    except ImportError as error:
        raise MissingRuntime(f"writing ONNX needs onnx and onnxscript ({error}); pip install onnx onnxscript") from None
    served = ServedTower(backbone, prompts).eval()
    many = torch.export.Dim("count", min=1)  # one for all inputs
    others = tuple({0: many} for _ in served.input_names[1:])
    axes: tuple = ({0: many}, others) if others else ({0: many},)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            served,
            served.examples(),
            dynamo=True,
            opset_version=OPSET,
            input_names=served.input_names,
            output_names=["features"],
            dynamic_shapes=axes,
            verbose=False,
            external_data=False,
        )
    assert program is not None  # as it is without dynamo only
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(program.model_proto.SerializeToString())
        onnx.checker.check_model(str(beside))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return served


def tensorrt_script(served: ServedTower, model: str, most: int, usual: int) -> str:
    """A shell script that builds a TensorRT engine of an ONNX file beside it, on the machine that will run it.

    Args:
        served: what the file holds.
        model: the file's name.
        most, usual: views of a pass, at most and as the engine is tuned for.
    """
    inputs = zip(served.input_names, served.examples(), strict=True)
    shapes = {name: "x".join(map(str, tensor.shape[1:])) for name, tensor in inputs}
    options = [
        f"--{kind}Shapes=" + ",".join(f"{name}:{count}x{shape}" for name, shape in shapes.items())
        for kind, count in (("min", 1), ("opt", usual), ("max", most))
    ]
    engine = f"{Path(model).stem}.engine"
    lines = [f"--onnx={shlex.quote(model)}", f"--saveEngine={shlex.quote(engine)}", "--fp16", *options]
    command = " \\\n    ".join(["trtexec", *lines, '"$@"'])
    return (
        "#!/bin/sh\n"
        f"# Builds {engine} from {model}. An engine fits only the GPU and the TensorRT that built it, so run this on\n"
        "# the Jetson itself; JetPack has trtexec in /usr/src/tensorrt/bin. Further options are handed on to it.\n"
        'set -eu\ncd "$(dirname "$0")"\nPATH="$PATH:/usr/src/tensorrt/bin"\n'
        f"{command}\n"
    )


@dataclass(frozen=True)
class OnnxBackbone(Backbone):
    """A backbone whose views ONNX Runtime encodes; its words, and all else, are torch's."""

    session: Any = field(default=None, repr=False)

    def encode_views(
        self,
        views: Tensor,
        prompts: Tensor | None = None,
        extents: Tensor | None = None,
        limit: tower.PatchLimit | None = None,
    ) -> Tensor:
        """As `Backbone.encode_views`, equal within `TOLERANCE`; for use only, so without gradients or a `limit`."""
        if limit is not None:
            raise ValueError("patches are limited in training only, which runs in torch; set runtime to torch")
        size = self.preprocessing.size
        if tuple(views.shape[-2:]) != (size, size):
            views = F.interpolate(views[:, None], (size, size), mode="bilinear", align_corners=True)[:, 0]
        if extents is None:
            extents = torch.full((len(views), 3), torch.nan)
        wanted = {"views": views, "extents": extents, "prompts": prompts}
        features = torch.empty(len(views), self.visual.output_dim, device=self.device)
        if len(views):
            self._run({each.name: wanted[each.name] for each in self.session.get_inputs()}, features)
        return features

    def _run(self, inputs: dict[str, Any], features: Tensor) -> None:
        """Straight from torch's memory into torch's memory, on the device."""
        binding = self.session.io_binding()
        held = {
            name: tensor.detach().to(features.device, torch.float32).contiguous() for name, tensor in inputs.items()
        }
        for name, tensor in held.items():
            binding.bind_input(name, *_place(tensor), "float32", tuple(tensor.shape), tensor.data_ptr())
        binding.bind_output("features", *_place(features), "float32", tuple(features.shape), features.data_ptr())
        if features.device.type == "cuda":
            torch.cuda.current_stream(features.device).synchronize()  # its own stream must not overtake torch's
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()


_sessions: WeakKeyDictionary[nn.Module, dict[int, Any]] = WeakKeyDictionary()
_opening = threading.Lock()


def served_by(backbone: Backbone, runtime: str, prompts: int = 0) -> Backbone:
    """The backbone itself for torch, else one with the same tower in ONNX Runtime, made once in the tower's life.

    Args:
        backbone: as it is served.
        runtime: one of `RUNTIMES`.
        prompts: visual prompts of an object.

    Raises:
        MissingRuntime: ONNX Runtime is not installed, or has nothing for the backbone's device.
        ValueError: no such runtime.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime '{runtime}' is none of {', '.join(RUNTIMES)}")
    if runtime == "torch" or isinstance(backbone, OnnxBackbone):
        return backbone
    with _opening:
        own = _sessions.setdefault(backbone.visual, {})
        if prompts not in own:
            own[prompts] = _opened(backbone, prompts)
    shared = {each.name: getattr(backbone, each.name) for each in fields(Backbone)}
    return OnnxBackbone(**shared, session=own[prompts])


def _opened(backbone: Backbone, prompts: int) -> Any:
    """A session of the tower's file in the cache, which is written where it is not there."""
    onnxruntime = _runtime()
    provider = "CUDAExecutionProvider" if backbone.device.type == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise MissingRuntime(
            f"this onnxruntime has no {provider} for device {backbone.device}; install onnxruntime-gpu, or set runtime "
            "to torch"
        )
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipoint3d_ros" / "onnx"
    path = folder / f"{fingerprint(backbone, prompts)}.onnx"
    if not path.is_file():
        _log.info("writing %s's tower as ONNX to %s", backbone.name, path)
        write_onnx(backbone, path, prompts)
        for old in sorted(folder.glob("*.onnx"), key=lambda each: each.stat().st_mtime)[:-_KEPT_FILES]:
            old.unlink(missing_ok=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    place = {"device_id": backbone.device.index or 0} if provider.startswith("CUDA") else {}
    return onnxruntime.InferenceSession(str(path), options, providers=[(provider, place)])


def worst_difference(backbone: Backbone, path: Path, served: ServedTower, views: int = 5) -> float:
    """How far a written file's embeddings lie from torch's at most, on the CPU, of some random views of half an object.

    Raises:
        MissingRuntime: ONNX Runtime is not installed.
    """
    inputs = list(served.examples(views))
    inputs[0][:, : inputs[0].shape[1] // 2] = 1  # empty patches
    given = dict(zip(served.input_names, inputs, strict=True))
    with torch.inference_mode():
        expected = backbone.encode_views(given["views"], given.get("prompts"), given.get("extents")).cpu()
    session = _runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.cpu().numpy() for name, tensor in given.items()})
    return float((torch.from_numpy(found) - expected).abs().max())


def fingerprint(backbone: Backbone, prompts: int = 0) -> str:
    """What a tower's file is found by: sha256 of its weights and of all else that is in it."""
    what = (OPSET, torch.__version__, prompts, backbone.preprocessing, backbone.card.activation)
    digest = hashlib.sha256(repr(what).encode())
    for name, tensor in backbone.visual.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()[:32]


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingRuntime(f"runtime 'onnxruntime' needs it installed ({error}); pip install onnxruntime") from None
    return onnxruntime


def _place(tensor: Tensor) -> tuple[str, int]:
    return tensor.device.type, tensor.device.index or 0


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of every step, on standard output and in the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
