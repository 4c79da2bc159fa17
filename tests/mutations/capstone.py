"""Students' answers to the exercise of notebook 06."""

import math

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from lr_helpers.anchors import anchor_centres, spread_anchors, top_anchors
from lr_helpers.boxes import area, box_mask
from lr_helpers.losses import direction_loss, structure_loss
from lr_helpers.regions import RegionNetwork, gumbel_softmax, pool_proposals, proposals, standardise


class Student:
    """The method step by step; a slip is a step that is written otherwise."""

    def __call__(self, models, picture, source, prompt, method, seed):
        self.models, self.picture, self.method, self.seed = models, picture, method, seed
        self.source, self.prompt, self.size = source, prompt, picture.shape[1]
        self.features, self.attention = models.backbone.encode_image(picture)
        self.boxes = self.place()
        self.edits = self.paint()
        self.table = self.judge()
        self.probabilities = self.train(self.pool())
        k, m = self.choose()
        return {"boxes": self.boxes, "loss": self.table, "probabilities": self.probabilities,
                "box": self.boxes[k, m], "image": self.edits[k * self.boxes.shape[1] + m]}

    def anchors(self):
        h, w = self.attention.shape[1:]
        return spread_anchors(self.attention, self.method.anchors, self.method.distance * min(h, w))

    def centres(self, anchors):
        return anchor_centres(anchors, tuple(self.attention.shape[1:]), self.size)

    def place(self):
        return proposals(self.centres(self.anchors()), self.method.sizes, self.size)

    def pool(self):
        return standardise(pool_proposals(self.features, self.boxes, self.size, self.method.pool))

    def masks(self):
        return torch.stack([box_mask(b, self.size, self.size) for b in self.boxes.reshape(-1, 4).tolist()])

    def frames(self):
        return self.models.editor.inpaint(self.picture, self.masks(), self.prompt, seed=self.seed, steps=self.method.steps)

    def paint(self):
        m = self.masks()
        return self.frames() * m + self.picture * (1 - m)

    def texts(self):
        return self.models.clip.encode_text([self.prompt, self.source])

    def judge(self):
        seen, tokens = self.models.clip.encode_image(self.edits)
        image, before = self.models.clip.encode_image(self.picture.unsqueeze(0))
        prompt, source = self.texts()
        total = (self.method.direction_weight * self.direction(seen, image[0], source, prompt)
                 + self.method.structure_weight * structure_loss(tokens, before[0])
                 + self.method.area_weight * self.share())
        return self.table_of(total)

    def direction(self, seen, image, source, prompt):
        return direction_loss(seen, image, source, prompt)

    def share(self):
        return area(self.boxes).reshape(-1) / self.size ** 2

    def table_of(self, total):
        return total.view(self.boxes.shape[0], self.boxes.shape[1])

    def network(self):
        torch.manual_seed(self.seed)
        return RegionNetwork(self.boxes.shape[1], self.features.shape[0], self.method.pool)

    def optimiser(self, network):
        return torch.optim.Adam(network.parameters(), lr=self.method.lr)

    def updates(self):
        return self.method.iterations

    def objective(self, logits):
        return (logits.softmax(1) * self.table).sum(1).mean()

    def train(self, pooled):
        network = self.network()
        optimiser = self.optimiser(network)
        for _ in range(self.updates()):
            loss = self.objective(network(pooled))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            return network(pooled).softmax(1)

    def choose(self):
        best = self.probabilities.argmax(1)
        losses = self.table.gather(1, best[:, None])[:, 0]
        k = losses.argmin().item()
        return k, best[k].item()


def slip(**steps):
    """A student who writes these steps otherwise."""
    return type("Slip", (Student,), steps)()


def swapped_centres(self, anchors):
    h, w = self.attention.shape[1:]
    return torch.stack([(anchors[:, 0] + 0.5) * self.size / h, (anchors[:, 1] + 0.5) * self.size / w], 1)


def one_by_one(self):
    return torch.cat([self.models.editor.inpaint(self.picture, mask[None], self.prompt, seed=self.seed, steps=self.method.steps)
                      for mask in self.masks()])


def other_noise(self):
    return torch.cat([self.models.editor.inpaint(self.picture, mask[None], self.prompt, seed=self.seed + i, steps=self.method.steps)
                      for i, mask in enumerate(self.masks())])


def pasted_slices(self):
    edits = self.picture.repeat(len(self.masks()), 1, 1, 1)
    for edit, frame, (x0, y0, x1, y1) in zip(edits, self.frames(), self.boxes.flatten(0, 1).tolist()):
        edit[:, y0:y1, x0:x1] = frame[:, y0:y1, x0:x1]
    return edits


def transposed_masks(self):
    return torch.stack([box_mask((y0, x0, y1, x1), self.size, self.size) for x0, y0, x1, y1 in self.boxes.reshape(-1, 4).tolist()])


def roi(self):
    k = len(self.boxes)
    h, w = self.features.shape[1:]
    scaled = self.boxes.flatten(0, 1) * torch.tensor([w, h, w, h]) / self.size
    pooled = roi_align(self.features[None], [scaled], self.method.pool, sampling_ratio=2, aligned=True)
    pooled = pooled.reshape(k, -1, self.method.pool, self.method.pool)
    if k == 1:
        return pooled
    return (pooled - pooled.mean(0)) / (pooled.std(0, unbiased=False) + 1e-5)


def no_step(self, pooled):
    network = self.network()
    optimiser = self.optimiser(network)
    for _ in range(self.updates()):
        optimiser.zero_grad()
        self.objective(network(pooled)).backward()
    return network(pooled).softmax(1).detach()


def no_zero_grad(self, pooled):
    network = self.network()
    optimiser = self.optimiser(network)
    for _ in range(self.updates()):
        self.objective(network(pooled)).backward()
        optimiser.step()
    return network(pooled).softmax(1).detach()


def last_logits(self, pooled):
    network = self.network()
    optimiser = self.optimiser(network)
    for _ in range(self.updates()):
        logits = network(pooled)
        optimiser.zero_grad()
        self.objective(logits).backward()
        optimiser.step()
    return logits.softmax(1).detach()


def seeded_late(self):
    network = RegionNetwork(self.boxes.shape[1], self.features.shape[0], self.method.pool)
    torch.manual_seed(self.seed)
    return network


def sampled(self, logits):
    weights = gumbel_softmax(logits, 1.0, torch.rand(logits.shape))
    return (weights * self.table).sum(1).mean()


def forked(self):
    with torch.random.fork_rng():
        torch.manual_seed(self.seed)
        return RegionNetwork(self.boxes.shape[1], self.features.shape[0], self.method.pool)


def by_loops(self):
    best = [row.index(max(row)) for row in self.probabilities.tolist()]
    losses = [self.table[k, m].item() for k, m in enumerate(best)]
    k = losses.index(min(losses))
    return k, best[k]


def arrays(*given):
    return {name: np.asarray(value.detach()) for name, value in Student()(*given).items()}


def lowest_of_table(self):
    return divmod(self.table.argmin().item(), self.table.shape[1])


def each_minimum(self):
    best = self.table.argmin(1)
    k = self.probabilities.gather(1, best[:, None])[:, 0].argmax().item()
    return k, best[k].item()


def surest(self):
    return divmod(self.probabilities.argmax().item(), self.probabilities.shape[1])


def lowest_expected(self):
    k = (self.probabilities * self.table).sum(1).argmin().item()
    return k, self.probabilities[k].argmax().item()


def row_of_the_minimum(self):
    k = self.table.argmin().item() // self.table.shape[1]
    return k, self.probabilities[k].argmax().item()


def lowest_mean(self):
    k = self.table.mean(1).argmin().item()
    return k, self.probabilities[k].argmax().item()


def edit_of(number):
    """Returns another edit's picture: number(k, m, anchors, sizes)."""
    class Other(Student):
        def __call__(self, *given):
            found = super().__call__(*given)
            k, m = self.choose()
            return {**found, "image": self.edits[number(k, m, *self.boxes.shape[:2])]}

    return Other()


def masks_by_size(self):
    return torch.stack([box_mask(b, self.size, self.size) for b in self.boxes.transpose(0, 1).reshape(-1, 4).tolist()])


def box_as_list(*given):
    found = Student()(*given)
    return {**found, "box": found["box"].tolist()}


def attached(self, pooled):
    network = self.network()
    optimiser = self.optimiser(network)
    for _ in range(self.updates()):
        optimiser.zero_grad()
        self.objective(network(pooled)).backward()
        optimiser.step()
    return network(pooled).softmax(1)


def with_distance(whole, side=min):
    return slip(anchors=lambda s: spread_anchors(s.attention, s.method.anchors, whole(s.method.distance * side(s.attention.shape[1:]))))


def only_image(*given):
    return Student()(*given)["image"]


WRONG = {
    "whole_edit": [
        ("top anchors", "keep their distance", slip(anchors=lambda s: top_anchors(s.attention, s.method.anchors))),
        ("distance as it is", "keep their distance",
         slip(anchors=lambda s: spread_anchors(s.attention, s.method.anchors, s.method.distance))),
        ("centres swapped", "(row, column)", slip(centres=swapped_centres)),
        ("nine anchors", "every setting|go from the top|wrong length|axis 0",
         slip(anchors=lambda s: spread_anchors(s.attention, 2, s.method.distance * min(s.attention.shape[1:])))),
        ("raw features", "standardise", slip(pool=lambda s: pool_proposals(s.features, s.boxes, s.size, s.method.pool))),
        ("not pasted", "paste it", slip(paint=lambda s: s.frames())),
        ("pasted the wrong way round", "1 where the edit goes",
         slip(paint=lambda s: s.picture * s.masks() + s.frames() * (1 - s.masks()))),
        ("other noise", "same noise", slip(frames=other_noise)),
        ("seed 42", "noise of the edits|same noise", slip(frames=lambda s: s.models.editor.inpaint(
            s.picture, s.masks(), s.prompt, seed=42, steps=s.method.steps))),
        ("default steps", "method.steps", slip(frames=lambda s: s.models.editor.inpaint(
            s.picture, s.masks(), s.prompt, seed=s.seed))),
        ("source painted", "paint the prompt", slip(frames=lambda s: s.models.editor.inpaint(
            s.picture, s.masks(), s.source, seed=s.seed, steps=s.method.steps))),
        ("masks transposed", "mask|x and y", slip(masks=transposed_masks)),
        ("texts swapped", "swapped", slip(texts=lambda s: s.models.clip.encode_text([s.source, s.prompt]))),
        ("L_Clip", "L_Clip", slip(direction=lambda s, seen, image, source, prompt: 1 - F.cosine_similarity(seen, prompt, dim=-1))),
        ("no area", "area is missing", slip(share=lambda s: torch.zeros(s.boxes.shape[:2]).reshape(-1))),
        ("area in pixels", "share of the picture", slip(share=lambda s: area(s.boxes).reshape(-1).float())),
        ("table transposed", "anchor by anchor", slip(table_of=lambda s, total: total.view(s.boxes.shape[1], s.boxes.shape[0]).T)),
        ("table flat", "axis|axes|(K, M)", slip(table_of=lambda s, total: total[None])),
        ("50 updates", "method.iterations", slip(updates=lambda s: 50)),
        ("one update more", "method.iterations", slip(updates=lambda s: s.method.iterations + 1)),
        ("Adam as it comes", "method.lr", slip(optimiser=lambda s, network: torch.optim.Adam(network.parameters()))),
        ("SGD", "is Adam", slip(optimiser=lambda s, network: torch.optim.SGD(network.parameters(), lr=s.method.lr))),
        ("no step", "never learns", slip(train=no_step)),
        ("no zero_grad", "add up", slip(train=no_zero_grad)),
        ("old logits", "once more", slip(train=last_logits)),
        ("seeded too late", "seed|another result each time", slip(network=seeded_late)),
        ("sampled without seed", "another result each time|expected loss", slip(objective=sampled)),
        ("uphill", "go down", slip(objective=lambda s, logits: -(logits.softmax(1) * s.table).sum(1).mean())),
        ("softmax over the anchors", "over the last axis", slip(objective=lambda s, logits: (logits.softmax(0) * s.table).sum(0).mean())),
        ("lowest of the table", "minimum of the table", slip(choose=lowest_of_table)),
        ("surest anchor", "best anchor", slip(choose=surest)),
        ("first anchor", "best anchor", slip(choose=lambda s: (0, s.probabilities[0].argmax().item()))),
        ("anchor of the lowest expected loss", "not by their expected", slip(choose=lowest_expected)),
        ("anchor of the lowest mean", "expected or mean loss", slip(choose=lowest_mean)),
        ("anchor that holds the lowest loss", "has not chosen doesn't count", slip(choose=row_of_the_minimum)),
        ("picture k", "k · M + m", edit_of(lambda k, m, anchors, sizes: k)),
        ("picture m · K + k", "k · M + m", edit_of(lambda k, m, anchors, sizes: m * anchors + k)),
        ("masks size by size", "boxes.flatten(0, 1)", slip(masks=masks_by_size)),
        ("distance rounded", "neither rounded", with_distance(round)),
        ("distance rounded up", "neither rounded", with_distance(math.ceil)),
        ("distance cut off", "neither rounded|keep their distance", with_distance(int)),
        ("distance by the rows", "keep their distance|go from the top", with_distance(float, lambda grid: grid[0])),
        ("distance by the columns", "keep their distance|go from the top", with_distance(float, lambda grid: grid[1])),
        ("not detached", "detach", slip(train=attached)),
        ("box as floats", "whole-number", lambda *given: (lambda found: {**found, "box": found["box"].float()})(Student()(*given))),
        ("no box", "missing in the dict: box", lambda *given: {k: v for k, v in Student()(*given).items() if k != "box"}),
        ("only the picture", "dict", only_image),
    ],
}
RIGHT = {
    "whole_edit": [
        ("steps in a class", Student()),
        ("boxes one by one", slip(frames=one_by_one)),
        ("pasted by slices", slip(paint=pasted_slices)),
        ("RoIAlign by torchvision", slip(pool=roi)),
        ("fork_rng", slip(network=forked)),
        ("loops and lists", slip(choose=by_loops)),
        ("arrays", arrays),
        ("box as a list", box_as_list),
        ("log and exp", slip(objective=lambda s, logits: (logits.log_softmax(-1).exp() * s.table).sum(-1).mean())),
    ],
}
