"""A frozen CLIP: weights, tokenizer and preprocessing, always together, from this machine's disk.

Three ways to name one: an open_clip architecture with a tag or a checkpoint ("ViT-B-16", "openai"), a folder in
open_clip's layout ("local-dir:/path"), or nothing at all for the model embedded in this package. Nothing is ever
downloaded unless asked for.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies
from weakref import WeakValueDictionary

import huggingface_hub
import open_clip
import torch
import torch.nn.functional as F
from open_clip import pretrained as tags
from open_clip.factory import load_checkpoint
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU
from torch import Tensor

from clipoint3d_ros.clip import tower
from clipoint3d_ros.clip.sentences import Sentences
from clipoint3d_ros.clip.size import install_size_token, size_prompts
from clipoint3d_ros.clip.stem import install_stem
from clipoint3d_ros.resources import EMBEDDED, asset

_logger = logging.getLogger(__name__)

LOCAL_DIR = "local-dir:"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
PATCHES = ("trained", "occupied", "all")
QUICK_GELU = "-quickgelu"  # ends open_clip's names of architectures with that activation, and our checksums of such


class MissingWeights(FileNotFoundError):
    """Weights are not on this machine; the message says how to get them."""


@dataclass(frozen=True)
class Preprocessing:
    """What the weights expect of an image: side in pixels, channel means and deviations, empty patches left out."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    drop_empty: bool = False

    def __call__(self, views: Tensor) -> Tensor:
        """(M, H, W) depth views in [0, 1] → (M, 3, size, size) normalised, the three channels equal before it."""
        if views.shape[-1] != self.size or views.shape[-2] != self.size:
            views = F.interpolate(views[:, None], (self.size, self.size), mode="bilinear", align_corners=True)[:, 0]
        mean, std = (torch.tensor(v, device=views.device)[:, None, None] for v in (self.mean, self.std))
        return (views[:, None] - mean) / std


@dataclass(frozen=True)
class Card:
    """Which backbone, without its weights: what a bundle says of the one it belongs to.

    name, pretrained, checksum, preprocessing: as in `Backbone`. width: D of its embedding.
    """

    name: str
    pretrained: str | None
    checksum: str
    preprocessing: Preprocessing
    width: int

    @property
    def weights(self) -> str:
        """sha256 of the weights alone."""
        return self.checksum.removesuffix(QUICK_GELU)

    @property
    def activation(self) -> str:
        """`quick_gelu` or `gelu`."""
        return "quick_gelu" if self.checksum.endswith(QUICK_GELU) else "gelu"


@dataclass(frozen=True)
class Backbone:
    """A CLIP on its device, in evaluation mode, with what belongs to its weights.

    name: as it was asked for. pretrained: likewise, None where the name says it all.
    checksum: sha256 of the weights, hexadecimal; "-quickgelu" behind it where they run with that activation, for other
        features come of the same weights with another.
    temperature: what logits are divided by so that scores mean probabilities; fitted on held-out data where the
        model's own folder says so, else 1.
    unknown_logit: the logit (after the temperature) of a class "none of these", fitted likewise; None without one.
    """

    name: str
    model: CLIP
    tokenizer: Any
    preprocessing: Preprocessing
    checksum: str
    temperature: float = 1.0
    unknown_logit: float | None = None
    pretrained: str | None = None
    _sentences: Sentences = field(default_factory=Sentences, repr=False)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def visual(self) -> Any:
        return self.model.visual

    @property
    def card(self) -> Card:
        return Card(self.name, self.pretrained, self.checksum, self.preprocessing, self.visual.output_dim)

    @property
    def scale(self) -> float:
        """exp(τ) of METHOD 4, divided by the temperature."""
        return float(self.model.logit_scale.exp()) / self.temperature

    def encode_views(
        self,
        views: Tensor,
        prompts: Tensor | None = None,
        extents: Tensor | None = None,
        limit: tower.PatchLimit | None = None,
    ) -> Tensor:
        """Unit embeddings of depth views.

        Args:
            views: (M, H, W) in [0, 1], 1 background.
            prompts: (M, K, W) visual prompts, or None.
            extents: (M, 3) metres, the height, length and width of each view's object; NaN or None where not known.
                A tower without a size token does not look at them.
            limit: of the patches in training; of a backbone that leaves empty ones out.

        Returns:
            (M, D) float32, rows of length 1.
        """
        images = self.preprocessing(views)
        occupancy = None
        if self.preprocessing.drop_empty:
            size = self.preprocessing.size
            if views.shape[-1] != size:
                views = F.interpolate(views[:, None], (size, size), mode="bilinear", align_corners=True)[:, 0]
            occupancy = tower.patch_occupancy(views, self.visual.patch_size[0])
            occupancy = occupancy if limit is None else limit(occupancy)
        size_tokens = size_prompts(self.visual, extents, len(views))
        if size_tokens is not None:
            prompts = size_tokens if prompts is None else torch.cat([size_tokens, prompts], 1)
        return F.normalize(tower.forward(self.visual, images, prompts, occupancy).float(), dim=-1)

    @torch.no_grad()
    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Unit embeddings (K, D) float32 of sentences; the thousands used last are not encoded again."""
        found = self._sentences.recall(sentences)
        fresh = [s for s in dict.fromkeys(sentences) if s not in found]
        self._tell_unmet(fresh)
        self._tell_cut(fresh)
        for start in range(0, len(fresh), 256):
            batch = fresh[start : start + 256]
            tokens = self.tokenizer(batch).to(self.device)
            features = F.normalize(self.model.encode_text(tokens).float(), dim=-1)
            new = dict(zip(batch, features, strict=True))
            self._sentences.keep(new)
            found |= new
        if not sentences:
            return torch.zeros(0, self.visual.output_dim, device=self.device)
        return torch.stack([found[s] for s in sentences])

    def _tell_unmet(self, sentences: Sequence[str]) -> None:
        """An embedded model's training met some hundred words; every other one is a zero vector and says nothing."""
        if not sentences or not hasattr(self.model, "token_embedding") or not hasattr(self.tokenizer, "encode"):
            return
        blank = (self.model.token_embedding.weight == 0).all(1).tolist()
        words = dict.fromkeys(word for sentence in sentences for word in re.findall(r"\w+", sentence))
        unmet = [word for word in words if any(blank[token] for token in self.tokenizer.encode(word))]
        if unmet:
            more = f" and {len(unmet) - 8} more" if len(unmet) > 8 else ""
            _logger.warning(
                "%s never met the words %s%s, which say nothing to it: describe the class's shape in words of "
                "config/classes/household.yaml, or name a pretrained CLIP",
                self.name,
                ", ".join(unmet[:8]),
                more,
            )

    def _tell_cut(self, sentences: Sequence[str]) -> None:
        """A text tower reads so many tokens of a sentence, its start and its end among them; the rest says nothing."""
        limit = getattr(self.tokenizer, "context_length", None)
        if not limit or not hasattr(self.tokenizer, "encode"):
            return
        lengths = {sentence: len(self.tokenizer.encode(sentence)) + 2 for sentence in sentences}
        cut = [sentence for sentence, length in lengths.items() if length > limit]
        if cut:
            _logger.warning(
                "%s reads %d tokens of a sentence and leaves the end of '%s' out, which has %d%s: shorten its "
                "description",
                self.name,
                limit,
                cut[0],
                lengths[cut[0]],
                f" (and of {len(cut) - 1} more)" if len(cut) > 1 else "",
            )


# Only those that somebody still holds: nodes that are cleaned up give their memory back.
_shared: WeakValueDictionary[tuple[str | None, str | None, torch.device, str], Backbone] | None = None
_sharing = threading.Lock()


def share_backbones() -> None:
    """From now on, whoever loads the same backbone in this process gets the same one: nobody ever changes it."""
    global _shared
    with _sharing:
        _shared = WeakValueDictionary() if _shared is None else _shared


def load_backbone(
    name: str | None = None,
    pretrained: str | None = None,
    device: str | torch.device | None = None,
    download: bool = False,
    patches: str = "trained",
) -> Backbone:
    """Load a CLIP from this machine's disk.

    Args:
        name: an open_clip architecture, "local-dir:" and a folder, one of `EMBEDDED`, or None for the first of these.
        pretrained: for an architecture, a tag of open_clip ("openai", "laion2b_s34b_b88k", …) or a checkpoint's path,
            whose activation and normalisation are those of an `open_clip_config.json` beside it. Without one they are
            the architecture's own, and a warning says so: weights of OpenAI and MetaCLIP need "ViT-B-16-quickgelu".
        device: where it runs; None takes CUDA where there is one, else the CPU.
        download: fetch a tag's weights (with a progress bar) where they are not on this machine.
        patches: of a view, that go through the tower: as its weights were trained, the occupied ones (about half, and
            half the time), or all. It is part of the preprocessing: a bundle keeps it, for training and use alike.

    Raises:
        MissingWeights: the weights are not here and no download was asked for.
        ValueError: an unknown name, an architecture without weights, or a tower this package cannot run.
    """
    if patches not in PATCHES:
        raise ValueError(f"patches '{patches}' is none of {', '.join(PATCHES)}")
    place = usable_device(device)
    if _shared is None:
        return _with_patches(_load(name, pretrained, place, download), patches)
    with _sharing:
        key = (name or EMBEDDED[0], pretrained, place, patches)
        backbone = _shared.get(key)
        if backbone is None:
            backbone = _shared[key] = _with_patches(_load(name, pretrained, place, download), patches)
        return backbone


def _with_patches(backbone: Backbone, patches: str) -> Backbone:
    if patches == "trained":
        return backbone
    return replace(backbone, preprocessing=replace(backbone.preprocessing, drop_empty=patches == "occupied"))


def _load(name: str | None, pretrained: str | None, place: torch.device, download: bool) -> Backbone:
    if name is None or name in EMBEDDED:
        if pretrained:
            raise ValueError(f"'pretrained' is '{pretrained}' without a backbone; name one, for instance ViT-B-16")
        own = name or EMBEDDED[0]
        return _load_folder(asset(own), own, place)
    if name.startswith(LOCAL_DIR):
        if pretrained:
            raise ValueError(f"'pretrained' is '{pretrained}', but {name} has its own weights; leave it out")
        return _load_folder(Path(name[len(LOCAL_DIR) :]), name, place)
    return replace(_load_architecture(name, pretrained, place, download), pretrained=pretrained)


def named_device(device: str | torch.device | None) -> torch.device:
    """The device of a name, without touching it; None is CUDA where there is one, else the CPU.

    Raises:
        ValueError: torch knows no such device.
    """
    try:
        return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise _no_device(device, error) from error


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device of a name, tried unless it was left to us.

    Raises:
        ValueError: torch knows no such device, or cannot use it here.
    """
    place = named_device(device)
    if device is not None:
        try:
            torch.empty(1, device=place)
        except (RuntimeError, AssertionError) as error:  # torch's words differ from device to device
            raise _no_device(device, error) from error
    return place


def _no_device(device: object, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0]
    return ValueError(f"device '{device}' cannot be used here ({reason}); use cpu, or leave it out")


def file_checksum(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def build_model(config: dict) -> tuple[CLIP, Any]:
    """An untrained model and its tokenizer from an `open_clip_config.json` as a dictionary."""
    model_config = config["model_cfg"]
    model = CLIP(**model_config)
    own = config.get("clipoint3d", {})
    if own.get("stem"):
        install_stem(model.visual, own["stem"], own.get("stem_blocks", 0))
    if own.get("size_token"):
        install_size_token(model.visual)
    return model, open_clip.SimpleTokenizer(context_length=model_config["text_cfg"].get("context_length", 77))


def _load_folder(folder: Path, name: str, device: torch.device) -> Backbone:
    """open_clip's `local-dir:` layout; a key "clipoint3d" beside its own holds what open_clip has no word for."""
    config_path = folder / CONFIG_FILE
    if not config_path.is_file():
        raise MissingWeights(
            f"no {CONFIG_FILE} in {folder}; a local-dir: backbone is a folder with that file and {WEIGHTS_FILE}"
        )
    config = _read_config(config_path)
    model_config = config["model_cfg"]
    weights = next((p for p in (folder / WEIGHTS_FILE, *sorted(folder.glob("*.safetensors"))) if p.is_file()), None)
    if weights is None:
        raise MissingWeights(f"no weights in {folder}; put {WEIGHTS_FILE} beside {CONFIG_FILE}")
    own = config.get("clipoint3d", {})
    if own.get("stem") or own.get("size_token"):
        model, tokenizer = build_model(config)
    else:
        model = open_clip.create_model(f"{LOCAL_DIR}{folder}", load_weights=False)
        tokenizer = open_clip.get_tokenizer(f"{LOCAL_DIR}{folder}")
    load_checkpoint(model, str(weights))
    cfg = config.get("preprocess_cfg", {})
    return _finish(
        name, model, tokenizer, cfg, file_checksum(weights), device, own, model_config["vision_cfg"]["image_size"]
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
        dict(config["model_cfg"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not an open_clip configuration with 'model_cfg': {error!r}") from error
    return config


def _load_architecture(name: str, pretrained: str | None, device: torch.device, download: bool) -> Backbone:
    known = open_clip.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, EMBEDDED)
        near = near or [m for m in known if m.lower().startswith(name.lower()[:5])][:12] or known[:12]
        raise ValueError(f"there is no backbone '{name}' of open_clip or embedded here; near it are {', '.join(near)}")
    if not pretrained:
        offered = ", ".join(open_clip.list_pretrained_tags_by_model(name)[:8]) or "none"
        raise ValueError(f"backbone '{name}' needs 'pretrained': a checkpoint's path or a tag of open_clip ({offered})")
    if Path(pretrained).is_file():
        checkpoint = Path(pretrained)
        settings = _settings_beside(checkpoint, name)
    elif tags.is_pretrained_cfg(name, pretrained):
        settings = tags.get_pretrained_cfg(name, pretrained)
        checkpoint = _tagged_weights(name, pretrained, settings, download)
    else:
        offered = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise MissingWeights(f"'{pretrained}' is neither a file nor a tag of {name}; its tags are {offered}")
    keep = {k: settings[k] for k in ("mean", "std") if settings.get(k)}
    with _quiet():
        model = open_clip.create_model(
            name,
            pretrained=str(checkpoint),
            force_quick_gelu=bool(settings.get("quick_gelu", False)),
            force_preprocess_cfg=keep or None,
        )
    size = model.visual.image_size if hasattr(model.visual, "image_size") else 224
    cfg = {**getattr(model.visual, "preprocess_cfg", {}), **keep}
    return _finish(name, model, open_clip.get_tokenizer(name), cfg, file_checksum(checkpoint), device, {}, size)


def _settings_beside(checkpoint: Path, name: str) -> dict[str, Any]:
    """What a tag's settings would say of a checkpoint: the configuration beside it says it, or nothing does."""
    path = checkpoint.with_name(CONFIG_FILE)
    if not path.is_file():
        if name + QUICK_GELU in open_clip.list_models():
            _tell_activation(checkpoint, name)
        return {}
    config = _read_config(path)
    quick = bool(config["model_cfg"].get("quick_gelu", False))
    if name.endswith(QUICK_GELU) and not quick:
        raise ValueError(
            f"{path} says that {checkpoint.name} was not trained with QuickGELU, which {name} has; name the backbone "
            f"{name.removesuffix(QUICK_GELU)}"
        )
    return {**config.get("preprocess_cfg", {}), "quick_gelu": quick}


@cache  # once for each
def _tell_activation(checkpoint: Path, name: str) -> None:
    _logger.warning(
        "nothing says which activation %s was trained with, for it has no %s beside it: it runs with GELU, as %s has "
        "it. Weights of OpenAI, MetaCLIP and DFN were trained with QuickGELU and give wrong features so; name the "
        "backbone %s for them",
        checkpoint,
        CONFIG_FILE,
        name,
        name + QUICK_GELU,
    )


def activation_before(name: str, pretrained: str | None) -> str | None:
    """The activation that a backbone of this name had before bundles told it; None where its folder tells it."""
    if pretrained is None:
        return None
    quick = name.endswith(QUICK_GELU) or tags.get_pretrained_cfg(name, pretrained).get("quick_gelu", False)
    return "quick_gelu" if quick else "gelu"


def _tagged_weights(name: str, tag: str, settings: dict, download: bool) -> Path:
    """The file a tag's weights lie in on this machine, downloaded only when asked."""
    found = _cached(settings)
    if found is not None:
        return found
    if not download:
        raise MissingWeights(
            f"the weights '{tag}' of {name} are not on this machine; fetch them once with "
            f"`clipoint3d classify --backbone {name} --pretrained {tag} --download FILE`, or name a folder that holds "
            f"them and their {CONFIG_FILE} as backbone {LOCAL_DIR}FOLDER"
        )
    _check_hub(name, tag, settings)
    return Path(tags.download_pretrained(settings))


def _check_hub(name: str, tag: str, settings: dict) -> None:
    """Without a network the hub's library tries for a minute before it says so."""
    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname
    if "https" in getproxies() or not settings.get("hf_hub"):
        return  # a proxy finds names itself
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise MissingWeights(
            f"the weights '{tag}' of {name} cannot be fetched: this machine does not find {host} ({error}); connect it,"
            f" or fetch {settings['hf_hub'].rstrip('/')} elsewhere, {CONFIG_FILE} and {WEIGHTS_FILE} of it, and name "
            f"the folder with both as backbone {LOCAL_DIR}FOLDER, without a tag"
        ) from None


def _cached(settings: dict) -> Path | None:
    repository = settings.get("hf_hub", "").rstrip("/")
    for file in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        found = huggingface_hub.try_to_load_from_cache(repository, file) if repository else None
        if isinstance(found, str):
            return Path(found)
    url = settings.get("url")
    beside = Path.home() / ".cache" / "clip" / Path(url).name if url else None
    return beside if beside is not None and beside.is_file() else None


def _finish(
    name: str,
    model: CLIP,
    tokenizer: Any,
    preprocess: dict,
    checksum: str,
    device: torch.device,
    own: dict,
    size: int | tuple[int, int],
) -> Backbone:
    tower.check_tower(model.visual, name)
    side = size if isinstance(size, int) else size[0]
    default = open_clip.transform.PreprocessCfg()
    preprocessing = Preprocessing(
        side,
        tuple(preprocess.get("mean", default.mean)),
        tuple(preprocess.get("std", default.std)),
        bool(own.get("drop_empty", False)),
    )
    model = model.to(device).eval().requires_grad_(False)
    quick = any(isinstance(module, QuickGELU) for module in model.modules())
    unknown = own.get("unknown_logit")
    return Backbone(
        name,
        model,
        tokenizer,
        preprocessing,
        checksum + QUICK_GELU if quick else checksum,
        float(own.get("temperature", 1.0)),
        None if unknown is None else float(unknown),
    )


class _quiet:
    """open_clip logs to the root logger at INFO and WARNING while it builds; its errors still raise."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._before)
