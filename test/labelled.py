"""Small scene folders and bags for the tests of evaluation."""

import json

import numpy as np

from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.datasets.scenes import Intrinsics, Scene
from clipoint3d_ros.evaluation.bag_writer import BagWriter
from clipoint3d_ros.evaluation.bags import SECOND, Topics, TrueObject

CAMERA = Intrinsics(fx=60.0, fy=60.0, cx=39.5, cy=29.5)
CLASSES = ("box", "can", "mug")


def tabletop(name, classes, seed=0):
    """A camera one metre above a table with upright slabs on it, one instance each, ids from 2."""
    rng = np.random.default_rng(seed)
    depth = np.full((60, 80), 1.2)
    depth[:4] = 0
    instance = np.ones((60, 80), np.uint8)
    instance[:4] = 0
    for number, _ in enumerate(classes):
        row, column = 8 + 24 * (number // 3), 4 + 26 * (number % 3)
        instance[row : row + 20, column : column + 20] = number + 2
        depth[row : row + 20, column : column + 20] = 0.9 + 0.002 * rng.integers(0, 30, (20, 20))
    names = {number + 2: name for number, name in enumerate(classes) if name}
    return Scene(name, np.array([0.0, -0.8, -0.6]), depth, instance, names, CAMERA)


def scene_folder(path, count=3):
    """A folder of `count` scenes with a box, a can, an object without a name, and a bottle in the first."""
    stream = [
        tabletop(f"s{i}", ["box", "can", "", "bottle"] if i == 0 else ["box", "can", ""], seed=i) for i in range(count)
    ]
    scenes.write_folder(path, stream)
    return stream


def labelled_bag(path, frames, topics=None, storage="mcap", period=SECOND // 2, seed=0, points=60):
    """A bag of frames {id: name}, each object a small random blob of `points` points; stamps from 5 s on."""
    rng = np.random.default_rng(seed)
    with BagWriter(path, topics or Topics(), storage) as bag:
        for i, names in enumerate(frames):
            ids = [int(k) for k in names]
            instance = np.repeat(np.array(ids, int), points)
            xyz = rng.normal(0, 0.03, (len(instance), 3)) + np.array([1.0, 0, 0]) + 0.2 * instance[:, None]
            objects = [TrueObject(k, name, (1.0, 0.0, 0.0), (0.1, 0.1, 0.1)) for k, name in names.items()]
            bag.write(5 * SECOND + i * period, "level", xyz.astype(np.float32), instance, objects)
    return path


def fields(cloud):
    """A decoded cloud's points by field name, (H, W)."""
    packed = np.frombuffer(cloud.data.tobytes(), [(f.name, {7: "<f4", 6: "<u4"}[f.datatype]) for f in cloud.fields])
    return packed.reshape(cloud.height, cloud.width)


def untrained_backbone(folder, seed=0):
    """A tiny open_clip model with random weights in a folder: answers without sense, but the same ones every time."""
    import torch
    from safetensors.torch import save_file

    from clipoint3d_ros.clip.backbone import CONFIG_FILE, WEIGHTS_FILE, build_model

    model_cfg = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(seed)
    model, _ = build_model({"model_cfg": model_cfg})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, folder / WEIGHTS_FILE)
    return f"local-dir:{folder}"
