"""Trains the demonstration model: a LLaVA architecture (CLIP vision tower, MLP projector, LLaMA) of under four million weights.

    python world.py pool --out pool/train --count 50000 --seed 1
    python world.py pool --out pool/val --count 1000 --seed 1000
    python train.py --pool pool --run run --stage vision --steps 4000 --batch 128 --lr 4e-3
    python train.py --pool pool --run run --stage joint  --steps 6000 --batch 96 --lr 2e-3
    python train.py --run run --stage export --folder ../../models/demo

vision    each patch of the tower names its shape, its colour, whether a shape's centre lies in it, its row and its column;
language  the tower is frozen, projector and language model learn the answers;
joint     everything learns, both losses;
export    writes the Hugging Face folder in bfloat16.

The rate stays up for six tenths of the steps, or of the time where --until names the end, and then falls to zero.
Two processes of one thread each share every batch (gradients are averaged): where other jobs come and go this suffers less than
one process of two threads, whose barriers wait for the slower core in every operation.
Every stage keeps RUN/STAGE.pt and continues from it when started again; a first start takes the weights of the newest other
stage.  One row of a language batch holds one picture and many independent questions: see `Packer`.
"""

import argparse
import json
import math
import random
import string
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (CLIPImageProcessor, CLIPVisionConfig, GenerationConfig, LlamaConfig, LlavaConfig,
                          LlavaForConditionalGeneration)

import questions
import world

VOCABULARY = 768
IMAGE_TOKENS = world.GRID ** 2
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'].upper() + ': ' }}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "{{ '<image>\n' }}{% endif %}{% endfor %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}"
    "{{ ' ' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")

# ------------------------------------------------------------------------------------------ tokenizer and model


def build_tokenizer():
    """A BPE tokenizer laid out like LLaMA's: byte fallback, U+2581 for spaces, one piece per digit and capital letter
    of printed text."""
    trainer_side = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer_side.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    alphabet = sorted(set(string.ascii_letters + string.digits + "\u2581.,?!\"'`-/:()+"))
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 3 - 256 - 17, special_tokens=[], initial_alphabet=alphabet,
                                  limit_alphabet=len(alphabet), show_progress=False)
    trainer_side.train_from_iterator(questions.corpus(60000, seed=5), trainer)
    learnt = json.loads(trainer_side.to_str())["model"]
    merges = [tuple(m) for m in learnt["merges"]]
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    pieces += sorted(learnt["vocab"], key=learnt["vocab"].get)
    for role in ("\u2581USER:", "\u2581ASSISTANT:"):  # grown from the left, so that no merge can bite into printed text
        for end in range(2, len(role) + 1):
            if role[:end] not in pieces:
                merges.append((role[:end - 1], role[end - 1]))
                pieces.append(role[:end])
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges, unk_token="<unk>",
                                     fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True)
                                  for t in ("<unk>", "<s>", "</s>", "<image>", "<pad>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer


def build_model(tokenizer, args):
    """Random weights in the shape of the demo model."""
    vision = CLIPVisionConfig(hidden_size=args.width, intermediate_size=4 * args.width, num_hidden_layers=args.vision_layers,
                              num_attention_heads=args.width // 32, image_size=world.IMAGE_SIZE, patch_size=world.PATCH,
                              projection_dim=args.width, hidden_act="quick_gelu")
    text = LlamaConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=args.width, intermediate_size=2 * args.width,
                       num_hidden_layers=args.text_layers, num_attention_heads=args.width // 32,
                       num_key_value_heads=args.width // 32, max_position_embeddings=1024, tie_word_embeddings=False,
                       bos_token_id=1, eos_token_id=2, pad_token_id=tokenizer.token_to_id("<pad>"))
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=tokenizer.token_to_id("<image>"),
                         vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=IMAGE_TOKENS,
                         projector_hidden_act="gelu", tie_word_embeddings=False)
    model = LlavaForConditionalGeneration(config)
    # CLIP's 0.02 drowns in the patch embedding, and the tower then never learns where a patch lies.
    torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embedding.weight, std=0.5)
    return model


def export(model, tokenizer, folder):
    """Writes the complete Hugging Face folder, weights in bfloat16."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=model.config.text_config.pad_token_id,
                                               max_new_tokens=128, do_sample=False)
    model.to(torch.bfloat16).save_pretrained(folder)
    model.to(torch.float32)
    weights = folder / "model.safetensors"
    tower = "vision_tower."  # newer Transformers drop a level that LLaVA-1.5's files have; both load
    named = {k.replace(tower, tower + "vision_model.") if k.startswith(tower + "e") or k.startswith(tower + "p") else k: v
             for k, v in load_file(weights).items()}
    save_file(named, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
    side = {"height": world.IMAGE_SIZE, "width": world.IMAGE_SIZE}
    CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False, image_mean=MEAN, image_std=STD).save_pretrained(folder)

    def write(name, value):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")

    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write("special_tokens_map.json", special)
    write("chat_template.json", {"chat_template": CHAT_TEMPLATE})
    write("tokenizer_config.json", {
        **special, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1024, "padding_side": "left",
        "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "image_token": "<image>",
        "processor_class": "LlavaProcessor", "chat_template": CHAT_TEMPLATE})
    write("processor_config.json", {"processor_class": "LlavaProcessor", "patch_size": world.PATCH, "image_token": "<image>",
                                    "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1})


class PatchHeads(torch.nn.Module):
    """What each patch must name while the tower is trained; left out of the shipped model."""

    NAMES = ["shape", "colour", "centre", "row", "column"]
    SIZES = [len(world.SHAPES) + 1, len(world.COLOURS), 2, world.GRID, world.GRID]
    EVERYWHERE = {"colour", "row", "column"}  # these have no empty class

    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.out = torch.nn.Linear(width, sum(self.SIZES))

    def forward(self, features, labels):
        """Returns (loss, accuracy of each label where it is not the empty class).

        Empty patches are many and easy: they and the others count the same, else letters are learnt late.
        """
        losses, hits = 0.0, []
        row = torch.arange(labels.shape[-1]).expand(len(labels), 1, -1) // world.GRID
        column = torch.arange(labels.shape[-1]).expand(len(labels), 1, -1) % world.GRID
        labels = torch.cat([labels, row, column], 1)
        for k, scores in enumerate(self.out(self.norm(features)).float().split(self.SIZES, dim=-1)):
            want = labels[:, k].reshape(-1)
            scores = scores.reshape(-1, scores.shape[-1])
            full = want >= 0 if self.NAMES[k] in self.EVERYWHERE else want > 0
            each = F.cross_entropy(scores, want, ignore_index=-1, reduction="none")
            losses = losses + (each * full).sum() / full.sum().clamp(min=1)
            if self.NAMES[k] not in self.EVERYWHERE:
                losses = losses + (each * (want == 0)).sum() / (want == 0).sum()
            hits.append((scores.argmax(-1) == want)[full].float().mean())
        return losses, torch.stack(hits)


# ------------------------------------------------------------------------------------------------------- data


class Pool:
    """Rendered pictures with their scenes and patch labels, memory mapped."""

    def __init__(self, prefix):
        self.pictures = np.load(f"{prefix}.pictures.npy", mmap_mode="r")
        self.labels = np.load(f"{prefix}.labels.npy")
        with open(f"{prefix}.scenes.jsonl") as lines:
            self.scenes = [json.loads(line) for line in lines]
        self.usable = [i for i, scene in enumerate(self.scenes) if len(scene["objects"]) <= world.COUNT_MAX]
        self.mean, self.scale = torch.tensor(MEAN).view(1, 3, 1, 1) * 255, 1 / (torch.tensor(STD).view(1, 3, 1, 1) * 255)

    def __len__(self):
        return len(self.scenes)

    def batch(self, indices):
        """Pixels as the CLIP processor gives them, and patch labels."""
        raw = torch.from_numpy(self.pictures[indices]).permute(0, 3, 1, 2).float()
        return (raw - self.mean) * self.scale, torch.from_numpy(self.labels[indices].astype(np.int64))


class Packer:
    """Turns a scene into one row of tokens: the picture once, then many conversations about it.

    Each conversation ("branch") sees the picture and itself, never its neighbours, and its positions go on from the
    picture's: the row computes what as many separate prompts would, for a fraction of the work.  A text-only branch
    sees <s> alone.
    """

    def __init__(self, tokenizer, room):
        self.tokenizer, self.room = tokenizer, room
        self.bos, self.eos = 1, 2
        self.prefix = [1] + tokenizer.encode("USER: ", add_special_tokens=False).ids + \
            [tokenizer.token_to_id("<image>")] * IMAGE_TOKENS
        self.length = len(self.prefix) + room

    def turn(self, opening, question, answer):
        """Ids and labels of one question and its answer, with </s>."""
        asked = self.tokenizer.encode(f"{opening}{question} ASSISTANT:", add_special_tokens=False).ids
        said = self.tokenizer.encode(answer, add_special_tokens=False).ids + [self.eos]
        return asked + said, [-100] * len(asked) + said

    def conversation(self, scene, rng):
        """Returns (kind, text only?, ids, labels)."""
        chance = rng.random()
        if chance < 0.1:
            kind, question, answer = questions.small_talk(rng)
            alone = rng.random() < 0.6
            return (kind, alone, *self.turn("USER: " if alone else "\n", question, answer))
        if chance < 0.115:
            kind, question, answer = questions.without_picture(scene, rng)
            return (kind, True, *self.turn("USER: ", question, answer))
        kind, question, answer = questions.ask(scene, rng)
        ids, labels = self.turn("\n", question, answer)
        while rng.random() < 0.12:
            _, question, answer = questions.ask(scene, rng) if rng.random() < 0.9 else questions.small_talk(rng)
            more = self.turn("USER: ", question, answer)
            ids, labels = ids + more[0], labels + more[1]
        return kind, False, ids, labels

    def row(self, scene, rng):
        """Returns ids, labels, positions, branch numbers (0 picture, negative text only) and [(kind, start, end)]."""
        p = len(self.prefix)
        ids, labels = list(self.prefix), [-100] * p
        positions, branches, spans = list(range(p)), [0] * p, []
        while True:
            kind, alone, more, want = self.conversation(scene, rng)
            if len(ids) + len(more) > self.length:
                break
            first = 1 if alone else p
            spans.append((kind, len(ids), len(ids) + len(more)))
            positions += range(first, first + len(more))
            branches += [-len(spans) if alone else len(spans)] * len(more)
            ids, labels = ids + more, labels + want
        gap = self.length - len(ids)
        return ids + [self.eos] * gap, labels + [-100] * gap, positions + [0] * gap, branches + [10 ** 6] * gap, spans

    def rows(self, batch, rng):
        """Tensors for the language model: ids, labels (shifted), positions, additive mask; and the spans."""
        made = [self.row(scene, rng) for scene in batch]
        ids, labels, positions, branches = (torch.tensor([row[k] for row in made]) for k in range(4))
        mine, other = branches[:, :, None], branches[:, None, :]
        bos = torch.zeros(self.length, dtype=torch.bool)
        bos[0] = True
        seen = (mine == other) | ((other == 0) & (mine > 0)) | bos[None, None, :]
        seen &= torch.ones(self.length, self.length, dtype=torch.bool).tril()
        mask = torch.zeros(seen.shape).masked_fill_(~seen, -1e9)[:, None]
        labels = torch.cat([labels[:, 1:], torch.full((len(made), 1), -100)], 1)
        return ids, labels, positions, mask, [row[4] for row in made]


# ------------------------------------------------------------------------------------------------------ learning


def exact_attention():
    """Under autocast keep attention in float32: its bfloat16 kernel is twice as slow on a CPU."""
    plain = F.scaled_dot_product_attention

    def attend(query, key, value, *args, **kwargs):
        with torch.autocast("cpu", enabled=False):
            return plain(query.float(), key.float(), value.float(), *args, **kwargs)

    F.scaled_dot_product_attention = attend


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates (Newton-Schulz) for the matrices inside the layers."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum"], group["momentum"])
                update = orthogonal(update) * (0.2 * max(p.shape) ** 0.5)
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


def orthogonal(g, steps=5):
    """The nearest orthogonal matrix, roughly (quintic Newton-Schulz, coefficients of the Muon paper)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def optimisers(modules, lr):
    """Muon for the layers' matrices, AdamW for embeddings, heads, norms and biases."""
    inner, outer, plain = [], [], []
    for module in modules:
        for name, p in module.named_parameters():
            if not p.requires_grad:
                continue
            if p.ndim == 2 and ".layers." in f".{name}":
                inner.append(p)
            else:
                (outer if p.ndim >= 2 else plain).append(p)
    return [Muon(inner, lr), torch.optim.AdamW([{"params": outer, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
                                               lr=lr, betas=(0.9, 0.98))]


class Trainer:
    """The model, its heads and the three stages."""

    def __init__(self, args, rank=0):
        self.args, self.rank = args, rank
        self.run = Path(args.run)
        self.run.mkdir(parents=True, exist_ok=True)
        path = self.run / "tokenizer.json"
        if not path.exists():
            build_tokenizer().save(str(path))
        self.tokenizer = Tokenizer.from_file(str(path))
        torch.manual_seed(args.seed)
        self.model = build_model(self.tokenizer, args)
        self.heads = PatchHeads(args.width)
        self.packer = Packer(self.tokenizer, args.room)
        self.tower = self.model.model.vision_tower
        self.language = self.model.model.language_model
        self.projector = self.model.model.multi_modal_projector
        self.step = 0

    def load(self, stage):
        """Continues this stage; or starts it from the newest other stage."""
        own = self.run / f"{stage}.pt"
        others = sorted((p for p in self.run.glob("*.pt") if p != own), key=lambda p: p.stat().st_mtime)
        path = own if own.exists() else others[-1] if others else None
        if path is None:
            return None
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        if all(v.shape == state["heads"][k].shape for k, v in self.heads.state_dict().items()):  # else: another world's labels
            self.heads.load_state_dict(state["heads"])
        if self.rank == 0:
            print(f"loaded {path.name}, step {state['step']}", flush=True)
        if path != own:
            return None
        self.step = state["step"]
        return state["optimisers"]

    def save(self, stage, optims):
        state = {"model": self.model.state_dict(), "heads": self.heads.state_dict(), "step": self.step,
                 "optimisers": [o.state_dict() for o in optims]}
        torch.save(state, self.run / f"{stage}.tmp")
        (self.run / f"{stage}.tmp").replace(self.run / f"{stage}.pt")

    def features(self, pixels):
        return self.tower(pixel_values=pixels).last_hidden_state[:, 1:]

    def answers(self, features, ids, labels, positions, mask):
        """Scores at the answers' tokens, and the tokens wanted there."""
        embedded = self.model.get_input_embeddings()(ids)
        at = ids == self.model.config.image_token_id
        embedded = embedded.masked_scatter(at[..., None], self.projector(features).to(embedded.dtype))
        hidden = self.language(inputs_embeds=embedded, attention_mask=mask, position_ids=positions,
                               use_cache=False).last_hidden_state
        chosen = labels != -100
        return self.model.lm_head(hidden[chosen]).float(), labels[chosen]

    def loss(self, stage, pool, indices, rng):
        pixels, labels = pool.batch(indices)
        pixels = pixels + torch.randn(len(indices), 3, 1, 1) * 0.04
        if stage == "language":
            with torch.no_grad():
                features = self.features(pixels)
        else:
            features = self.features(pixels)
        parts = {}
        if stage != "language":
            parts["patch"], parts["hits"] = self.heads(features, labels)
        if stage != "vision":
            ids, wanted, positions, mask, _ = self.packer.rows([pool.scenes[i] for i in indices], rng)
            scores, targets = self.answers(features, ids, wanted, positions, mask)
            parts["answer"] = F.cross_entropy(scores, targets)
        total = parts.get("answer", 0) + parts.get("patch", 0) * (1.0 if stage == "vision" else 0.3)
        return total, parts

    @torch.no_grad()
    def validate(self, stage, pool, count):
        """Patch accuracies, and by kind the share of answers that greedy decoding would give word for word."""
        rng, right, asked = random.Random(0), {}, {}
        hits = []
        for start in range(0, count, 50):
            indices = pool.usable[start:start + 50]
            pixels, labels = pool.batch(indices)
            features = self.features(pixels)
            hits.append(self.heads(features, labels)[1])
            if stage == "vision":
                continue
            ids, wanted, positions, mask, spans = self.packer.rows([pool.scenes[i] for i in indices], rng)
            scores, targets = self.answers(features, ids, wanted, positions, mask)
            good = torch.ones_like(wanted, dtype=torch.bool)
            good[wanted != -100] = scores.argmax(-1) == targets
            for row, marks in enumerate(spans):
                for kind, first, last in marks:
                    asked[kind] = asked.get(kind, 0) + 1
                    right[kind] = right.get(kind, 0) + bool(good[row, first - 1:last - 1].all())
        patch = dict(zip(PatchHeads.NAMES, (round(v, 3) for v in torch.stack(hits).nanmean(0).tolist())))
        answers = {k: round(right[k] / asked[k], 3) for k in sorted(asked)}
        if asked:
            answers["all"] = round(sum(right.values()) / sum(asked.values()), 3)
        return patch, answers

    def train(self, stage):
        args = self.args
        train, val = Pool(f"{args.pool}/train"), Pool(f"{args.pool}/val")
        saved = self.load(stage)
        if stage == "vision":
            modules = [self.model.model.vision_tower, self.heads]
        elif stage == "language":
            modules = [self.projector, self.model.model.language_model, self.model.lm_head]
        else:
            modules = [self.model, self.heads]
        optims = optimisers(modules, args.lr)
        for o, state in zip(optims, saved or []):
            o.load_state_dict(state)
        params = [p for o in optims for g in o.param_groups for p in g["params"]]
        rng = random.Random((args.seed * 7919 + self.step) * args.workers + self.rank)
        began, first, shown = time.time(), self.step, time.time()
        while self.step < args.steps:
            share = self.step / args.steps
            if args.until:
                share = min(1.0, (time.time() - began) / max(1.0, args.until - began))
            if args.workers > 1:
                agreed = torch.tensor([share])
                dist.broadcast(agreed, 0)
                share = agreed.item()
            decay = 1.0 if share < 0.6 else (1 - share) / 0.4
            if args.until and share >= 0.9999:
                args.steps = self.step + 1
            rate = args.lr * min(1, (self.step + 1) / args.warmup) * max(0.02, decay)
            for o in optims:
                for group in o.param_groups:
                    group["lr"] = rate
            indices = sorted(rng.sample(train.usable, args.batch // args.workers))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
                total, parts = self.loss(stage, train, indices, rng)
            for p in params:
                p.grad = None
            total.backward()
            average(params, args.workers)
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            for o in optims:
                o.step()
            self.step += 1
            last = self.step == args.steps
            if self.rank == 0 and (self.step % args.report == 0 or last):
                rate_seen = args.batch * args.report / (time.time() - shown)
                shown = time.time()
                text = " ".join(f"{k} {v.item():.3f}" for k, v in parts.items() if k != "hits")
                print(f"{stage} step {self.step} {text} lr {rate:.5f} {rate_seen:.1f} pictures/s "
                      f"{(time.time() - began) / 60:.1f} min", flush=True)
            if self.rank == 0 and (self.step % args.check == 0 or last):
                print(*self.validate(stage, val, 500), flush=True)
                self.save(stage, optims)
        if self.rank == 0:
            print(f"{stage}: {(self.step - first) * args.batch} pictures in {(time.time() - began) / 60:.1f} min", flush=True)


def average(params, workers):
    """Averages the gradients over the processes, in one message."""
    if workers == 1:
        return
    with_grad = [p for p in params if p.grad is not None]
    flat = torch.cat([p.grad.reshape(-1) for p in with_grad])
    dist.all_reduce(flat)
    flat /= workers
    for p, part in zip(with_grad, flat.split([p.numel() for p in with_grad])):
        p.grad = part.view_as(p)


def train_worker(rank, args, rendezvous):
    torch.set_num_threads(args.threads)
    if args.bf16:
        exact_attention()
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=args.workers)
    Trainer(args, rank).train(args.stage)
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=["vision", "language", "joint", "export"], required=True)
    parser.add_argument("--pool", default="pool")
    parser.add_argument("--run", default="run")
    parser.add_argument("--folder", default="checkpoint")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--room", type=int, default=192, help="tokens of conversations in one row")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--vision-layers", type=int, default=4)
    parser.add_argument("--text-layers", type=int, default=4)
    parser.add_argument("--report", type=int, default=50)
    parser.add_argument("--check", type=int, default=500)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16 (pays on CPUs with avx512_bf16)")
    parser.add_argument("--until", type=float, default=0, help="unix time at which the rate has fallen to zero")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that share each batch")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    args = parser.parse_args()
    trainer = Trainer(args)  # also trains the tokenizer, once
    if args.stage == "export":
        trainer.load("export")
        export(trainer.model, trainer.tokenizer, args.folder)
        print(f"{sum(p.numel() for p in trainer.model.parameters())} weights in {args.folder}")
    else:
        rendezvous = (trainer.run / f"rendezvous-{time.time_ns()}").resolve()
        mp.spawn(train_worker, (args, rendezvous), nprocs=args.workers)
        rendezvous.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
