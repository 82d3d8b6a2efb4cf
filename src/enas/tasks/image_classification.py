"""This module makes image classification a task: batches, loss, metric and reward (paper 3.2).

The whole data set lies on the device, normalised. Data that does not fit is made batch by batch.
Augmentation is batched on the device. A batch is a function of (seed, epoch, step), so any batch
can be asked for in any order, also after a resume.

In shapes, B is the size of a batch. x is (B, C, H, W) float32 in channels_last, and y is (B,)
int64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.data.augment import augmented, drawn
from enas.data.image_stream import ImageFiles, Streamed
from enas.data.images import ImageData
from enas.data.parts import PARTS, Part
from enas.networks.image_network import ImageNetwork
from enas.networks.supernet import Outputs
from enas.spaces.architecture import Architecture
from enas.state import exact, seed_of
from enas.tasks.metrics import METRICS
from enas.tasks.settings import ImageClassificationSettings
from enas.tasks.task import Model, Task, sizes


class Batch(NamedTuple):
    """A `Batch` holds images x (B, C, H, W) and their classes y (B,)."""

    x: Tensor
    y: Tensor


class Raw(NamedTuple):
    """A `Raw` batch holds images before their augmentation, with the random numbers that the
    augmentation needs."""

    x: Tensor
    y: Tensor
    draws: Tensor


class Images(NamedTuple):
    """An `Images` value holds all images of a part: x (N, C, H, W) and y (N,)."""

    x: Tensor | Streamed
    y: Tensor


class ImageClassification(Task):
    """An `ImageClassification` task makes batches of `data` and computes their loss. `train_on`
    says which images count as training data. With "train+validation" there is nothing left to
    choose on."""

    metric = METRICS["accuracy"]
    recordable = True

    def __init__(
        self,
        data: ImageData,
        settings: ImageClassificationSettings,
        seed: int = 0,
        device: torch.device | str = "cpu",
        train_on: Literal["train", "train+validation"] = "train",
    ):
        if not isinstance(data, ImageData):
            raise ValueError(f"images are classified; data set '{data.name}' has none (`enas data list`)")
        self.settings, self.seed = settings, seed
        self.device, self.train_on = torch.device(device), train_on
        self.dimensions = {"channels": data.channels, "image_size": data.image_size, "classes": data.num_classes}
        streams = data.streams(self.device)
        both: tuple[Part, ...] = ("train", "validation") if train_on == "train+validation" else ("train",)
        self._parts: dict[Part, Images] = {}
        for part in PARTS:
            parts = both if part == "train" else (part,)
            y = torch.cat([getattr(data, one).labels for one in parts]).to(self.device)
            if streams:
                self._parts[part] = Images(data.streamed(*parts, device=self.device), y)
            else:
                x = [data.normalised(one, self.device) for one in parts]
                whole = x[0] if len(x) == 1 else torch.cat(x).contiguous(memory_format=torch.channels_last)
                self._parts[part] = Images(whole, y)
        balanced = settings.class_weights == "balanced"
        self._weights = class_weights(self._parts["train"].y, data.num_classes) if balanced else None
        sizes = " / ".join(f"{self.size(part):,}" for part in PARTS)
        self.about = f"{data.about or data.name}: {sizes} images to train, validate and test on, {data.num_classes} classes"
        if streams:
            workers = f", {data.workers} workers" if data.workers else ""
            on_disk = isinstance(data.train.images, ImageFiles)
            self.about += f"; streams from {'disk' if on_disk else 'bytes in memory'}{workers}"
        self._order: tuple[object, Tensor] = (None, torch.empty(0))

    def size(self, part: Part) -> int:
        """Returns the number of images of a part."""
        return len(self._parts[part].y)

    # ------------------------------------------------------------------------------------ training
    @property
    def train_steps(self) -> int:
        """Returns the number of steps of one pass. A last batch of a single image is left out,
        because batch norm needs more."""
        full, rest = divmod(self.size("train"), self.settings.batch_size)
        return full + (rest > 1)

    def train_batch(self, epoch: int, step: int) -> Batch:
        """Returns batch `step` of pass `epoch`, augmented."""
        return self._augmented(self._raw(epoch, step))

    def raw_batch(self, epoch: int, step: int) -> Batch | Raw:
        """Returns a training batch before its augmentation, which `loss` then does. So a step that
        is recorded augments its own batch. Where a user's class has its own `train_batch`, returns
        that batch."""
        own = type(self).train_batch is not ImageClassification.train_batch  # a user's
        return self.train_batch(epoch, step) if own else self._raw(epoch, step)

    def _raw(self, epoch: int, step: int) -> Raw:
        index, (images, labels) = self._train_index(epoch, step), self._parts["train"]
        if isinstance(images, Streamed):
            x = images.ahead(epoch, step, self.train_steps, self._train_index)
        else:
            x = images[index]
        generator = torch.Generator(self.device).manual_seed(seed_of(self.seed, "augment", epoch, step))
        s = self.settings
        return Raw(x, labels[index], drawn(x, generator, s.pad, s.flip, s.cutout))

    def _augmented(self, raw: Raw) -> Batch:
        s = self.settings
        x = augmented(raw.x, raw.draws, s.pad, s.flip, s.cutout)
        return Batch(x.contiguous(memory_format=torch.channels_last), raw.y)

    def _train_index(self, epoch: int, step: int) -> Tensor:
        size = self.settings.batch_size
        return self._permutation("train", epoch)[step * size : (step + 1) * size]

    def loss(
        self, model: Model, arch: Architecture | None, batch: Batch | Raw, progress: float = 1.0, child: int = 0
    ) -> Tensor:
        """Returns the mean cross-entropy in nats, with the weights of the classes, plus the
        weighted loss of the auxiliary head."""
        batch = self._augmented(batch) if isinstance(batch, Raw) else batch
        out = model(batch.x, arch, progress=progress)
        smoothing = self.settings.label_smoothing
        if not isinstance(out, Outputs):
            return F.cross_entropy(out, batch.y, self._weights, label_smoothing=smoothing)
        main, aux = (F.cross_entropy(logits, batch.y, self._weights, label_smoothing=smoothing) for logits in out)
        return main + model.aux_weight * aux

    def cut(self, batch: Batch | Raw, k: int) -> list[tuple[float, Batch | Raw]]:
        """Returns the batch in parts, each with its weight. A part weighs as much as its images do
        in the loss."""
        lengths = sizes(len(batch.y), k)
        pieces = [type(batch)(*parts) for parts in zip(*(part.split(lengths) for part in batch), strict=True)]
        weights = [float(len(p.y) if self._weights is None else self._weights[p.y].sum()) for p in pieces]
        return [(weight / sum(weights), piece) for weight, piece in zip(weights, pieces, strict=True)]

    def diverged(self, loss: float) -> bool:
        """Returns whether a loss is not finite, or above ten times log(classes). log(classes) is
        the loss of a model that knows nothing. A child whose weights were trained with other
        children starts above it (docs/decisions.md)."""
        return not loss <= 10 * math.log(self.dimensions["classes"])

    # ------------------------------------------------------------------------------------- scoring
    def reward_batch(self, step: int) -> Batch:
        """Returns the validation minibatch of controller step `step`, which is counted over the
        whole search. Passes are shuffled, and images are not augmented."""
        size = min(self.settings.reward_batch, self.size("validation"))
        turn, place = divmod(step, self.size("validation") // size)
        index = self._permutation("validation", turn)[place * size : (place + 1) * size]
        images, labels = self._parts["validation"]
        return Batch(images[index], labels[index])

    @torch.no_grad()
    def reward(self, model: Model, arch: Architecture | None, batch: Batch) -> float:
        """Returns a number between 0 and 1; larger is better. It is 0 where the logits are not
        finite. The model is left in evaluation mode."""
        model.eval()
        return self._reward(float(self._scored(model(batch.x, arch), batch.y)))

    @torch.no_grad()
    def rewards(self, model: Model, archs: Sequence[Architecture], batch: Batch) -> list[float]:
        """Returns the `reward` of each architecture. It waits for the device only once."""
        if not archs or type(self).reward is not ImageClassification.reward:  # one of a user's own
            return super().rewards(model, archs, batch)
        model.eval()
        if isinstance(model, ImageNetwork) and (program := model.program()) is not None:
            return list(map(self._reward, program.each(archs, batch.x, self._scored, batch.y).tolist()))
        different = dict.fromkeys(archs)
        with model.remembering():
            scores = torch.stack([self._scored(model(batch.x, arch), batch.y) for arch in different])
        rewards = dict(zip(different, map(self._reward, scores.tolist()), strict=True))
        return [rewards[arch] for arch in archs]

    def _scored(self, logits: Tensor, y: Tensor) -> Tensor:
        """Returns the accuracy or the loss, (), or nan where the logits are not finite."""
        right = self.settings.reward == "accuracy"
        score = (logits.argmax(1) == y).float().mean() if right else F.cross_entropy(logits, y)
        return torch.where(logits.isfinite().all(), score, torch.nan)

    def _reward(self, score: float) -> float:
        if math.isnan(score):
            return self.worst_reward
        return score if self.settings.reward == "accuracy" else math.exp(-score)

    @torch.no_grad()
    def evaluate(self, model: Model, arch: Architecture | None, part: Part) -> dict[str, float]:
        """Returns accuracy (0 to 1), loss (nats) and reward over a part, in evaluation mode."""
        model.eval()
        hits = torch.zeros((), dtype=torch.long, device=self.device)
        loss = torch.zeros((), dtype=torch.float64)
        for x, y in self._whole(part):
            logits = model(x, arch)
            hits += (logits.argmax(1) == y).sum()
            loss = loss + exact(F.cross_entropy(logits, y, reduction="sum"))
        return self._figures(int(hits) / self.size(part), float(loss) / self.size(part))

    def _figures(self, accuracy: float, mean_loss: float) -> dict[str, float]:
        reward = accuracy if self.settings.reward == "accuracy" else math.exp(-mean_loss)
        return {"accuracy": accuracy, "loss": mean_loss, "reward": reward}

    def _whole(self, part: Part) -> Iterator[Batch]:
        """Yields a whole part in its order."""
        (images, labels), spans = self._parts[part], self._eval_batches(part)
        if isinstance(images, Streamed):
            read = images.each([torch.arange(*span) for span in spans])
        else:
            read = (images[start:end] for start, end in spans)
        for (start, end), x in zip(spans, read, strict=True):
            yield Batch(x, labels[start:end])

    def _eval_batches(self, part: Part) -> list[tuple[int, int]]:
        """Returns the start and the end of each batch. No batch is a single image, because batch
        norm needs more."""
        n, size = self.size(part), self.settings.eval_batch
        ends = list(range(size, n - 1, size))
        return list(zip([0, *ends], [*ends, n], strict=True))

    @torch.no_grad()
    def probabilities(self, model: Model, arch: Architecture | None, part: Part) -> Tensor:
        """Returns the probabilities of all classes, (n, classes) float64. The model is left in
        evaluation mode."""
        model.eval()
        return torch.cat([exact(model(x, arch)).softmax(1) for x, _ in self._whole(part)])

    def judged(self, probabilities: Tensor, part: Part) -> dict[str, float]:
        """Returns the figures of `evaluate`, computed from probabilities (n, classes)."""
        labels = self._parts[part].y
        labels = labels.to(probabilities.device)
        loss = -probabilities.gather(1, labels[:, None]).clamp(min=1e-300).log().mean()
        return self._figures(float(exact(probabilities.argmax(1) == labels).mean()), float(loss))

    def _permutation(self, part: Part, turn: int) -> Tensor:
        key = (part, turn)
        if self._order[0] != key:
            generator = torch.Generator().manual_seed(seed_of(self.seed, "order", part, turn))
            self._order = (key, torch.randperm(self.size(part), generator=generator).to(self.device))
        return self._order[1]


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Returns the weights of the classes (classes,) float32. A weight is the inverse of the class's
    number of images among labels (N,), scaled to a mean of 1 over images. A class without images
    has weight 0."""
    counts = torch.bincount(labels, minlength=classes)
    here = counts > 0
    return torch.where(here, len(labels) / (here.sum() * counts.clamp(min=1)), 0.0)
