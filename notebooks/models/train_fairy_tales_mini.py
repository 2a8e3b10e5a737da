"""Train fairy-tales-mini, the small Llama decoder that lies beside this script and goes on with a fairy tale.

A byte-level BPE tokenizer of 2,048 pieces and a decoder of 1.5 million parameters are trained from nothing on sixteen
books of fairy tales that are in the public domain. One CPU core is enough; the products run in bfloat16, which is slow
on a core without AVX512-BF16 or AMX (``--float32`` turns that off).

Needs torch 2.9 or newer (for its Muon optimizer), transformers, and the network for ``git clone``::

    python train_fairy_tales_mini.py --output fairy-tales-mini

Data: Project Gutenberg's texts of the twelve coloured Fairy Books of Andrew Lang and four other collections, from the
GITenberg repositories named in ``BOOKS``. `load_tales` and `held_out` give later work the same texts and test set.
"""

import argparse
import hashlib
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOOKS = (
    "The-Blue-Fairy-Book_503", "The-Red-Fairy-Book_540", "The-Green-Fairy-Book_7277", "The-Yellow-Fairy-Book_640",
    "The-Pink-Fairy-Book_5615", "The-Grey-Fairy-Book_6746", "The-Violet-Fairy-Book_641", "The-Crimson-Fairy-Book_2435",
    "The-Brown-Fairy-Book_3282", "The-Orange-Fairy-Book_3027", "The-Olive-Fairy-Book_27826",
    "The-Lilac-Fairy-Book_3454", "Grimms-Fairy-Tales_2591", "Andersen-s-Fairy-Tales_1597", "Indian-Fairy-Tales_7128",
    "Japanese-Fairy-Tales_4018",
)  # fmt: skip
# SHA-256 of the tales, so that a text which its repository has changed since is noticed.
DIGEST = "ea8a0e3b9c7ab1b6611aac2f86623ef559f2db50cb380f30b4ffa8f238d2422a"
# Nineteenth-century words for peoples, which no sample should repeat: paragraphs that hold one are left out.
UNWANTED = re.compile(r"\b(jew(s|ess|ish)?|negr[oe]\w*|nigger\w*|g[yi]ps(y|ies)|savages?)\b", re.I)
PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "–": "-", "_": None, "\ufeff": None})
SPECIAL = ("<s>", "</s>", "<pad>")  # begins a tale, ends it, fills a batch
WIDTH = 256  # tokens in a training sequence, and the most the model was trained to see


def load_books(folder: Path | None) -> list[str]:
    """Return the texts of `BOOKS`, from <folder>/<number>.txt if a folder is given, else cloned with git."""
    texts = []
    for name in BOOKS:
        number = name.rsplit("_", 1)[1]
        if folder:
            data = (folder / f"{number}.txt").read_bytes()
        else:
            with tempfile.TemporaryDirectory() as clone:
                url = f"https://github.com/GITenberg/{name}"
                subprocess.run(["git", "clone", "--quiet", "--depth", "1", url, clone], check=True)
                files = (Path(clone, f"{number}-0.txt"), Path(clone, f"{number}.txt"))
                data = next(file for file in files if file.is_file()).read_bytes()
        texts.append(data.decode("utf-8").replace("\r\n", "\n").translate(PLAIN))
    return texts


def is_title(text: str) -> bool:
    """Tell whether a paragraph is the title of a tale: short, capitalised, without a sentence's end."""
    words = text.split()
    capitals = sum(not word[0].islower() for word in words)
    headline = text[0].isalpha() and text[-1].isalpha() and 2 * capitals > len(words)
    return len(text) < 80 and (headline or text.isupper())


def is_prose(text: str, lines: list[str]) -> bool:
    """Tell whether a paragraph is part of the tale: no verse, which is indented, no note, no row of stars."""
    return len(text) > 3 and text[0] not in "[*(" and not all(line[0] in " \t" for line in lines)


def tales_of(book: str) -> list[str]:
    """Split one book into its tales: prose paragraphs, a line each, without licence, titles, verse and notes."""
    body = re.split(r"\*END\*?\n|\*\*\* ?START OF TH.*\n", book, maxsplit=1)[-1]
    body = re.split(r"\*\*\* ?END OF TH|\nEnd of (?:The |the )?Project Gutenberg", body, maxsplit=1)[0]
    tales, current = [], []
    for block in [*re.split(r"\n\s*\n", body), "THE END"]:
        lines = [line for line in block.split("\n") if line.strip()]
        text = " ".join(" ".join(lines).split())
        if text and is_title(text):  # the tale before it is over
            tales.append("\n".join(current))
            current = []
        elif is_prose(text, lines) and not UNWANTED.search(text):
            current.append(text)
    return [tale for tale in tales if len(tale) > 1500]  # shorter ones are contents, prefaces and credits


def load_tales(folder: Path | None = None) -> list[str]:
    """Return all tales of the sixteen books, each once."""
    tales = list(dict.fromkeys(tale for book in load_books(folder) for tale in tales_of(book)))
    digest = hashlib.sha256("\0".join(tales).encode()).hexdigest()
    if digest != DIGEST:
        print(f"Note: these are not the texts of the model in the repository (SHA-256 {digest})")
    return tales


def held_out(tales: list[str]) -> list[str]:
    """Return the fixed test set: the twenty tales whose texts have the smallest SHA-256 digests."""
    return sorted(tales, key=lambda tale: hashlib.sha256(tale.encode()).digest())[:20]


def new_tokenizer(tales: list[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which knows every text; it puts <s> before it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(tales, trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left",
        model_max_length=WIDTH, clean_up_tokenization_spaces=False, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def stream(tokenizer: PreTrainedTokenizerFast, tales: list[str]) -> torch.Tensor:
    """Return the tales as one row of tokens, each between <s> and </s>."""
    encoded = tokenizer(tales, verbose=False)["input_ids"]
    return torch.tensor([token for ids in encoded for token in (*ids, tokenizer.eos_token_id)])


def windows(tokens: torch.Tensor, rng: random.Random | None = None) -> torch.Tensor:
    """Cut the row into sequences of `WIDTH` + 1 tokens, from a random place and in random order if told."""
    start = rng.randrange(WIDTH) if rng else 0
    cut = tokens[start:].unfold(0, WIDTH + 1, WIDTH)
    return cut[torch.tensor(rng.sample(range(len(cut)), len(cut)))] if rng else cut


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy, in nats a token, of every token of the batch but the first of a row."""
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the layers' matrices and AdamW for the embeddings and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate_at(step: int, steps: int, start: int) -> float:
    """Return the share of the learning rate: it rises for a hundred steps, stays, and falls to nothing in the end."""
    return min((step - start + 1) / 100, 1.0, (steps - step) / (0.4 * steps))


def fit(model: LlamaForCausalLM, tokens: torch.Tensor, rng: random.Random, args: argparse.Namespace, autocast) -> None:
    """Train for `args.steps` batches, from step `args.start` on."""
    steps = args.steps
    opts = optimizers(model, args.rate)
    plans = [torch.optim.lr_scheduler.LambdaLR(o, lambda s: rate_at(s + args.start, steps, args.start)) for o in opts]
    step, total, began = 0, [], time.monotonic()
    model.train()
    while step < steps:
        for batch in windows(tokens, rng).split(args.size):
            if len(batch) < args.size or step == steps:
                break
            step += 1
            if step <= args.start:
                continue
            with autocast():
                loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, plan in zip(opts, plans, strict=True):
                optimizer.step()
                plan.step()
                optimizer.zero_grad()
            total.append(loss.item())
            if step % 50 == 0 or step == steps:
                speed = len(total) * args.size * WIDTH / (time.monotonic() - began)
                mean = sum(total[-50:]) / len(total[-50:])
                print(f"  step {step}/{steps}: loss {mean:.3f}, {speed:.0f} tokens a second")
                model.save_pretrained(args.output)  # to look at, and to go on from with --start


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tales: list[str]) -> tuple[float, float]:
    """Return the perplexity per token, and the bits per character, of tales that were kept out of training."""
    rows = windows(stream(tokenizer, tales))
    model.eval()
    with torch.no_grad():
        nats = sum(loss_of(model, batch).item() * len(batch) for batch in rows.split(16)) / len(rows)
    characters = len(tokenizer.decode(rows[:, 1:].flatten(), skip_special_tokens=True)) / rows[:, 1:].numel()
    return math.exp(nats), nats / math.log(2) / characters


def main() -> None:
    """Train the tokenizer and the decoder, save them, and measure the decoder from the saved folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("fairy-tales-mini"))
    parser.add_argument("--books", type=Path, help="a folder with the books as <number>.txt, instead of git clone")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0, help="go on with the weights in --output as after this step")
    parser.add_argument("--size", type=int, default=16, help="sequences in a batch")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--float32", action="store_true")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tales = load_tales(args.books)
    tests = held_out(tales)
    training = [tale for tale in tales if tale not in set(tests)]
    rng.shuffle(training)
    print(f"{len(tales)} tales, {sum(map(len, tales)) / 1e6:.1f} million characters; {len(tests)} tales held out")

    args.output.mkdir(parents=True, exist_ok=True)
    if args.start:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.output)
    else:
        tokenizer = new_tokenizer(training, 2048)
        tokenizer.save_pretrained(args.output)
        named = args.output / "tokenizer_config.json"  # 4 does not know 5's name for it
        named.write_text(named.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=160, num_hidden_layers=4, num_attention_heads=5, intermediate_size=384,
        max_position_embeddings=WIDTH, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM.from_pretrained(args.output) if args.start else LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=2)
    tokens = stream(tokenizer, training)
    print(f"{model.num_parameters():,} parameters, {len(tokens):,} tokens")
    bfloat16 = nullcontext if args.float32 else lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    fit(model, tokens, rng, args, bfloat16)

    saved = LlamaForCausalLM.from_pretrained(args.output)
    perplexity, bits = measure(saved, tokenizer, tests)
    print(f"On {len(tests)} held-out tales: perplexity {perplexity:.2f} a token, {bits:.3f} bits a character")
    for prompt in ("Once upon a time", "The king said to his youngest son"):
        for options in ({"do_sample": False}, {"do_sample": True, "temperature": 0.8}):
            torch.manual_seed(args.seed)
            ids = saved.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=100, **options)
            print(f"--- {options}\n{tokenizer.decode(ids[0], skip_special_tokens=True)}")


if __name__ == "__main__":
    main()
