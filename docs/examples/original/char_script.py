"""Train a character model on Python's own documentation; evaluate every `--eval_interval` steps, first at step 0."""

import argparse
import os
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn.functional import cross_entropy

parser = argparse.ArgumentParser()
parser.add_argument("--out_dir", default="out")
parser.add_argument("--init_from", choices=["scratch", "resume"], default="scratch")
parser.add_argument("--max_iters", type=int, default=500)
parser.add_argument("--eval_interval", type=int, default=50)
parser.add_argument("--block_size", type=int, default=4)
parser.add_argument("--n_embd", type=int, default=16)
parser.add_argument("--n_hidden", type=int, default=64)
parser.add_argument("--learning_rate", type=float, default=0.01)
parser.add_argument("--seed", type=int, default=1337)
args = parser.parse_args()

text = "".join(topics.values()).encode("ascii", "ignore")
data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
train_data, val_data = data[: len(data) * 9 // 10], data[len(data) * 9 // 10 :]


def get_batch(data, seed, batch_size=64):
    starts = torch.randint(len(data) - args.block_size, (batch_size,), generator=torch.Generator().manual_seed(seed))
    return torch.stack([data[i : i + args.block_size] for i in starts]), data[starts + args.block_size]


torch.manual_seed(args.seed)
model = nn.Sequential(
    nn.Embedding(128, args.n_embd),
    nn.Flatten(),
    nn.Linear(args.n_embd * args.block_size, args.n_hidden),
    nn.GELU(),
    nn.Linear(args.n_hidden, 128),
)
optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate)
checkpoint = os.path.join(args.out_dir, "ckpt.pt")
iter_num = 0
if args.init_from == "resume":
    saved = torch.load(checkpoint)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    iter_num = saved["iter_num"]

while True:
    if iter_num % args.eval_interval == 0 or iter_num == args.max_iters:
        with torch.no_grad():
            inputs, targets = get_batch(val_data, seed=0, batch_size=4096)
            val_loss = cross_entropy(model(inputs), targets).item()
        print(f"step {iter_num}: val loss {val_loss:.4f}")
        os.makedirs(args.out_dir, exist_ok=True)
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iter_num": iter_num}
        torch.save(saved, checkpoint)
    if iter_num >= args.max_iters:
        break
    for group in optimizer.param_groups:
        group["lr"] = args.learning_rate * (1 - iter_num / args.max_iters)
    inputs, targets = get_batch(train_data, seed=args.seed + iter_num)
    optimizer.zero_grad(set_to_none=True)
    cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    iter_num += 1
