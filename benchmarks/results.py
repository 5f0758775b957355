"""The tables of results in the README: mean and range of what each command reaches with seeds 0 to 4.

    python benchmarks/results.py                       every row
    python benchmarks/results.py mlp cnn               the rows of some scripts
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEDS = range(5)

COMMANDS = """
perceptron.py
perceptron.py --rule rosenblatt
perceptron.py --dataset iris
perceptron.py --dataset xor
perceptron.py --dataset circles
perceptron.py --dataset moons
perceptron.py --dataset digits --classes 3 8
perceptron.py --dataset mnist --classes 3 8
perceptron.py --dataset cats-dogs
mlp.py --dataset blobs
mlp.py --dataset xor
mlp.py --dataset circles
mlp.py --dataset moons
mlp.py --dataset spirals
mlp.py --dataset iris
mlp.py --dataset sine
mlp.py --dataset digits
mlp.py --dataset cats-dogs
mlp.py
cnn.py --dataset digits
cnn.py --dataset cats-dogs
cnn.py
rnn.py --dataset airline
rnn.py --dataset sine
rnn.py --dataset adding --cell rnn
rnn.py --dataset adding --cell lstm
rnn.py --dataset adding --cell gru
rnn.py --dataset python-docs
rnn.py --cell rnn
rnn.py --cell gru
rnn.py
autoencoder.py --dataset digits
autoencoder.py --dataset cats-dogs --conv
autoencoder.py
autoencoder.py --latent 2
autoencoder.py --conv
autoencoder.py --mask 0.5 --labels 100
""".strip().splitlines()

def reached(command, seed):
    """The result of a run, its unit, and the seconds it reports."""
    script, *options = command.split()
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run([sys.executable, str(ROOT / script), *options, "--seed", str(seed), "--no-show",
                              "--figure", f"{folder}/figure.png"], text=True, check=True,
                             stdout=subprocess.PIPE, env={**os.environ, "MPLBACKEND": "Agg"}).stdout
    line = re.search(r"^test .* after (\d+) s", out, re.MULTILINE)
    for pattern, unit in ((r"net, one step +RMSE ([\d.]+)", "RMSE one step ahead"),
                          (r" 100 labels .* ([\d.]+) %\n", "% of test pictures, from codes and 100 labels")):
        if special := re.search(pattern, out):
            return float(special[1]), unit, int(line[1])
    words, value, unit = re.match(r"test (.*?)([\d.]+)( %| nats per character| per pixel|)(?= |$)",
                                  line[0]).groups()
    return float(value), f"{words.strip()}{unit}", int(line[1])

def main():
    scripts = sorted({command.split(".")[0] for command in COMMANDS})
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("scripts", nargs="*", default=scripts, help=f"of {', '.join(scripts)} (all)")
    args = parser.parse_args()
    if not set(args.scripts) <= set(scripts):
        parser.error(f"choose from {', '.join(scripts)}")
    print("| command | mean of seeds 0 to 4 | from | to | seconds |\n|---|---|---|---|---|")
    for command in COMMANDS:
        if command.split(".")[0] in args.scripts:
            values, units, seconds = zip(*(reached(command, seed) for seed in SEEDS))
            print(f"| `python {command}` | {units[0]}: {statistics.mean(values):.4g} | {min(values):.4g} | "
                  f"{max(values):.4g} | {statistics.median(seconds)} |", flush=True)

if __name__ == "__main__":
    main()
