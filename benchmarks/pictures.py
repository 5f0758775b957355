"""Redraw the pictures in the README: python benchmarks/pictures.py (some minutes).

Each script draws its own; docs/overview.png shows the most telling part of each.
"""
import argparse
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {"perceptron-blobs": "perceptron.py", "mlp-spirals": "mlp.py --dataset spirals",
            "mlp-mnist": "mlp.py", "cnn-mnist": "cnn.py", "rnn-shakespeare": "rnn.py",
            "autoencoder-mnist": "autoencoder.py",
            "autoencoder-mnist-2": "autoencoder.py --latent 2"}

# For the overview: which part of each picture (left, top, right, bottom), as shares of its width and height.
PARTS = {"perceptron-blobs": (0, 0, 0.43, 1), "mlp-spirals": (0, 0.05, 0.768, 1),
         "cnn-mnist": (0, 0.525, 1, 0.783), "rnn-shakespeare": (0, 0.515, 1, 1),
         "autoencoder-mnist": (0.05, 0.385, 0.51, 0.955)}

def overview():
    layout = f"{9 * 'P'}{17 * 'M'};{26 * 'C'};{20 * 'R'}{6 * 'A'}"       # as wide as each part is
    fig, ax = plt.subplot_mosaic(layout, figsize=(13, 9.3), height_ratios=(28, 16, 23), layout="constrained")
    for panel, (name, (left, top, right, bottom)) in zip("PMCRA", PARTS.items()):
        image = plt.imread(ROOT / f"docs/{name}.png")
        height, width = image.shape[:2]
        ax[panel].imshow(image[int(top * height):int(bottom * height), int(left * width):int(right * width)])
        ax[panel].axis("off")
        ax[panel].set_title(PICTURES[name].split()[0], fontsize=14, family="monospace")
    fig.savefig(ROOT / "docs/overview.png", dpi=80)

def main():
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    matplotlib.use("Agg")
    for name, command in PICTURES.items():
        script, *options = command.split()
        subprocess.run([sys.executable, str(ROOT / script), *options, "--no-show", "--figure",
                        str(ROOT / f"docs/{name}.png")], check=True, env={**os.environ, "MPLBACKEND": "Agg"})
    overview()

if __name__ == "__main__":
    main()
