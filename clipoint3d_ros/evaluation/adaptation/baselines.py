"""What CLIPoint3D is measured against: a linear probe, PointCLIP's zero-shot form, and a 3D encoder, alone and with
adversarial alignment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipoint3d_ros.adaptation.batches import source_batch, target_batch
from clipoint3d_ros.adaptation.clouds import levelled
from clipoint3d_ros.adaptation.config import TrainingConfig
from clipoint3d_ros.adaptation.trainer import Material, learning_rate
from clipoint3d_ros.clip.backbone import Backbone
from clipoint3d_ros.clip.descriptions import Descriptions
from clipoint3d_ros.clip.point_encoder import PointNet
from clipoint3d_ros.datasets.objects import Objects
from clipoint3d_ros.evaluation.adaptation.looking import Looks, look
from clipoint3d_ros.geometry.clouds import normalise
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig

POINTCLIP_TEMPLATE = "point cloud depth map of a {}."
VIEWS = 10
POINTS = 256  # of each cloud that the 3D encoder sees


def zero_shot(backbone: Backbone, classes: Descriptions, scored: Objects) -> Looks:
    """The frozen model with its classes' names and descriptions."""
    return look(Classifier(backbone, classes), scored)


def pointclip(backbone: Backbone, classes: Descriptions, scored: Objects) -> Looks:
    """PointCLIP's zero-shot form: one hand-written sentence a class (Zhang et al., "PointCLIP: Point cloud
    understanding by CLIP", CVPR 2022)."""
    classifier = Classifier(backbone, classes)
    classifier.text = backbone.encode_sentences([POINTCLIP_TEMPLATE.format(name) for name in classes.names])
    return look(classifier, scored)


def linear_probe(
    backbone: Backbone, classes: Descriptions, material: Material, scored: Objects, l2: float = 1e-3
) -> Looks:
    """Logistic regression on the frozen features of the source's views, started from the classes' text features.

    Args:
        l2: weight of the squared distance from that start, where no class has a bias.
    """
    classifier = Classifier(backbone, classes, ClassifierConfig(selection="all"))
    source = material.source
    features, labels = [], []
    for start in range(0, len(source), 32):
        rows = slice(start, start + 32)
        projection = classifier.project(list(source.points[rows].numpy()), (0, 1, 0))
        if not source.metric:
            projection = projection.without_sizes()
        features.append(classifier.encode(projection).clone().flatten(0, 1))
        labels.append(source.labels[rows].repeat_interleave(VIEWS))
    x, y = torch.cat(features), torch.cat(labels).to(backbone.device)
    anchor = classifier.scale * classifier.text.clone()
    weight, bias = anchor.clone().requires_grad_(), torch.zeros(len(anchor), device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        moved = (weight - anchor).square().sum(1).mean() + bias.square().mean()
        loss = F.cross_entropy(x @ weight.T + bias, y) + l2 * moved
        loss.backward()
        return loss

    optimiser.step(closure)
    classifier.text = weight.detach() / classifier.scale
    seen = look(classifier, scored)
    return Looks(seen.logits + bias.detach().cpu(), seen.facing)


class _Reverse(torch.autograd.Function):
    """The identity whose gradient is turned round and scaled (Ganin and Lempitsky, "Unsupervised domain adaptation by
    backpropagation", ICML 2015)."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return -ctx.scale * gradient, None


def point_encoder(
    classes: Descriptions,
    material: Material,
    config: TrainingConfig,
    scored: Objects,
    device: torch.device,
    adversarial: bool,
) -> Looks:
    """PointNet from scratch on the source's points, without CLIP: alone, or with a domain classifier on its features
    (DANN). Its answer has no views: every view is given the same logits.

    Args:
        adversarial: align the target's features with the source's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder, width = PointNet(256).to(device), 256
        head = nn.Linear(width, len(classes.names)).to(device)
        critic = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 1)).to(device)
    parameters = [*encoder.parameters(), *head.parameters(), *critic.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    count = min(POINTS, config.points)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        source = source_batch(material.source, material.scans, config, step).to(device)
        features, turned = encoder(source.points[:, :count])
        identity = torch.eye(turned.shape[-1], device=device)
        loss = F.cross_entropy(head(features), source.labels)
        loss = loss + 0.001 * (turned @ turned.mT - identity).square().sum((1, 2)).mean()
        if adversarial and material.target is not None:
            target = target_batch(material.target, config, step).to(device)
            other, _ = encoder(target.points[:, :count])
            progress = 2 / (1 + float(torch.tensor(-10.0 * step / config.steps).exp())) - 1  # the paper's schedule
            both = torch.cat([features, other])
            side = torch.cat([torch.ones(len(features), 1), torch.zeros(len(other), 1)]).to(device)
            loss = loss + F.binary_cross_entropy_with_logits(critic(_Reverse.apply(both, progress)), side)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    encoder.eval()
    clouds = levelled(scored, count)
    with torch.inference_mode():
        logits = torch.cat([head(encoder(normalise(part).to(device))[0]).cpu() for part in clouds.points.split(64)])
    even = torch.full((len(logits), VIEWS), 1 / VIEWS)
    return Looks(logits[:, None].expand(-1, VIEWS, -1).contiguous(), even)
