"""Each script's default net against its twin in PyTorch: same data, batch size, optimizer, learning rates,
float32 and two threads; each side runs in its own process, and the two take turns, an epoch each.

    python benchmarks/vs_torch.py                      every script
    python benchmarks/vs_torch.py mlp --epochs 9       one script, more turns
    python benchmarks/vs_torch.py --growth             how the cost of a convolution grows with its sizes

Needs `pip install torch`. A single process would not do: waiting threads of PyTorch and of NumPy's BLAS slow
each other down. The twin keeps its data as one tensor and cuts minibatches by index, the fast way in PyTorch;
a DataLoader would take several times as long. Quote the ratio, not the seconds.
"""
import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

import autoencoder
import cnn
import datasets
import mlp
import perceptron
import rnn

# --- The twins ------------------------------------------------------------------------------------------

def twin(net, dtype=None):
    """A torch.nn.Sequential of the same layers with copies of the same weights."""
    import torch
    makers = {"Linear": lambda layer: torch.nn.Linear(*layer.W.shape[::-1]),
              "Conv2d": lambda layer: torch.nn.Conv2d(layer.W.shape[1], layer.W.shape[0], layer.kernel,
                                                      layer.stride, layer.padding),
              "ConvTranspose2d": lambda layer: torch.nn.ConvTranspose2d(*layer.W.shape[:2], layer.kernel,
                                                                        layer.stride, layer.padding),
              "Unflatten": lambda layer: torch.nn.Unflatten(1, layer.shape),
              "MaxPool2d": lambda layer: torch.nn.MaxPool2d(layer.kernel, layer.stride),
              "Softmax": lambda layer: torch.nn.Softmax(dim=1),
              "Dropout": lambda layer: torch.nn.Dropout(layer.p)}
    layers = [makers.get(type(layer).__name__, lambda layer: getattr(torch.nn, type(layer).__name__)())(layer)
              for layer in net.layers]
    model = torch.nn.Sequential(*layers).to(dtype or torch.float32)
    model.load_state_dict({name: torch.tensor(value.copy()) for name, value in net.weights.items()})
    return model

def twin_loss(loss):
    import torch
    return {"MSELoss": torch.nn.MSELoss, "BCELoss": torch.nn.BCEWithLogitsLoss,
            "CrossEntropyLoss": torch.nn.CrossEntropyLoss}[type(loss).__name__]()

def twin_optimizer(optimizer, model):
    import torch
    makers = {"SGD": lambda *args, **options: torch.optim.SGD(*args, momentum=0.9, **options),
              "RMSprop": torch.optim.RMSprop, "Adam": torch.optim.Adam}
    options = dict(lr=optimizer.lr, weight_decay=optimizer.weight_decay)
    return makers[type(optimizer).__name__](model.parameters(), **options)

def train_twin(model, loss, optimizer, data, epochs, batch_size):
    """What the scripts' `train` does, step by step, in PyTorch. Yields, after each epoch, the test accuracy;
    with MSELoss, whose targets are the pictures themselves, the test error."""
    import torch
    X_train, y_train, X_test, y_test = (torch.tensor(a) for a in data[1:5])
    copies = isinstance(loss, torch.nn.MSELoss)

    def prepared(X):
        return X.float().mul_(1 / 255) if X.dtype == torch.uint8 else X.float()

    def score(Z, y):
        if copies:
            return loss(Z, y).item()
        return ((Z.argmax(1) if Z.shape[1] > 1 else Z > 0) == y).float().mean().item()

    step, steps, lr = 0, epochs * -(-len(X_train) // batch_size), optimizer.param_groups[0]["lr"]
    for _ in range(epochs):
        model.train()
        order, sums = torch.randperm(len(X_train)), np.zeros(2)
        for i in range(0, len(X_train), batch_size):
            rows = order[i:i + batch_size]
            X = prepared(X_train[rows])
            y = X if copies else y_train[rows]
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
            Z = model(X)
            L = loss(Z, y)
            optimizer.zero_grad()
            L.backward()
            optimizer.step()
            sums += np.array([L.item(), 0 if copies else score(Z.detach(), y)]) * len(y)
            step += 1
        model.eval()
        with torch.no_grad():
            Z = torch.cat([model(prepared(X_test[i:i + 1000])) for i in range(0, len(X_test), 1000)])
            y = prepared(X_test) if copies else y_test
            L = loss(Z, y).item()
        yield score(Z, y)

# --- One side, in a process of its own ------------------------------------------------------------------

def default_run(script, *argv):
    """What the script trains by default: net, loss and optimizer, the data, the options."""
    args = script.parse_args(argv)
    data = datasets.load()
    volumes = script is cnn or "--conv" in argv
    data = datasets.as_rows(data) if script is mlp else datasets.as_pictures(data, volumes)
    datasets.fill_in(args, autoencoder.CONV if "--conv" in argv else script.USUAL)
    return script.build(data, args, np.random.default_rng(0)), data, args

def train_net(script, *argv, side, epochs):
    """The default run of a script with a Sequential: a generator that trains, and yields test scores."""
    (net, loss, optimizer), data, args = default_run(script, *argv)
    if side == "numpy":
        rows = script.train(net, loss, optimizer, data, epochs, args.batch_size, np.random.default_rng(0))
        return (row[-1] for row in rows)
    model = twin(net)
    theirs = twin_loss(loss), twin_optimizer(optimizer, model)
    return train_twin(model, *theirs, data, epochs, args.batch_size)

def train_neuron(side, epochs):
    """perceptron.py's default run: a generator that trains, and yields test accuracies."""
    data, _ = perceptron.two_classes(datasets.load("blobs"), None)
    if side == "numpy":
        n, rng = len(data.X_train), np.random.default_rng(0)
        rows = perceptron.train(perceptron.Perceptron(2), data, epochs, n, perceptron.POINTS["lr"], rng)
        return (row[-1] for row in rows)
    return train_neuron_twin(data, epochs)

def train_neuron_twin(data, epochs):
    """The same in PyTorch."""
    import torch
    X, y, X_test, y_test = (torch.tensor(a, dtype=torch.float32) for a in data[1:5])
    model, criterion = torch.nn.Linear(2, 1), torch.nn.BCEWithLogitsLoss()
    torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), perceptron.POINTS["lr"])
    for _ in range(epochs):
        rows = torch.randperm(len(X))
        L = criterion(model(X[rows]), y[rows])
        optimizer.zero_grad()
        L.backward()
        optimizer.step()
        with torch.no_grad():
            for inputs, targets in (X, y), (X_test, y_test):
                z = model(inputs)
                score = criterion(z, targets).item(), ((z > 0) == targets).float().mean().item()
        yield score[1]

def train_writer(cell, side, epochs):
    """rnn.py's default run with one kind of cell: a generator that trains, and yields test losses."""
    args = rnn.parse_args([])
    task = datasets.choose_task(args, rnn.USUAL, np.random.default_rng(0))
    net, loss = rnn.build(cell, task, args)
    if side == "numpy":
        halves, optimizer = datasets.Halves(net, rnn.build(cell, task, args)[0]), rnn.Adam(net, args.lr)
        return (row[1] for row in rnn.train(halves, loss, optimizer, task, epochs, args.clip))
    return train_writer_twin(cell, net, task, args, epochs)

def train_writer_twin(cell, net, task, args, epochs):
    """The same in PyTorch, from the same weights."""
    import torch
    model = torch.nn.ModuleDict({"cell": getattr(torch.nn, cell.upper())(task.D, args.hidden),
                                 "output": torch.nn.Linear(args.hidden, task.K)})
    model.load_state_dict({name: torch.tensor(value.copy()) for name, value in net.weights.items()})
    optimizer, step = torch.optim.Adam(model.parameters(), args.lr), 0

    def losses(part):
        """The loss of each window, and how many characters it judges. Carries the state, not its gradient."""
        ids, state, readers = torch.tensor(task.ids[part]), None, task.readers(task.ids[part])
        streams = ids[:len(ids) // readers * readers].reshape(readers, -1).T
        for t in range(0, len(streams) - 1, args.window):
            window = streams[t:t + args.window + 1]
            h, state = model["cell"](torch.nn.functional.one_hot(window[:-1], task.K).float(), state)
            state = tuple(part.detach() for part in state) if cell == "lstm" else state.detach()
            Z = model["output"](h).reshape(-1, task.K)
            yield torch.nn.functional.cross_entropy(Z, window[1:].reshape(-1)), window[1:].numel()

    for _ in range(epochs):
        for L, _ in losses(0):
            optimizer.param_groups[0]["lr"] = args.lr * (1 - step / (epochs * task.steps))
            step += 1
            L.item()
            optimizer.zero_grad()
            L.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
        with torch.no_grad():
            total, count = map(sum, zip(*((L.item() * n, n) for L, n in losses(1))))
        yield total / count

TRAIN = {"perceptron": train_neuron, "mlp": partial(train_net, mlp), "cnn": partial(train_net, cnn),
         "autoencoder": partial(train_net, autoencoder),
         "autoencoder-conv": partial(train_net, autoencoder, "--conv"),
         **{cell: partial(train_writer, cell) for cell in rnn.CELLS}}

def one_side(script, side, turns):
    """Say when ready. Whenever a line comes in, take a turn at training, and print the seconds per epoch, the
    test score and the peak memory as JSON."""
    import resource
    if side == "torch":
        import torch
        torch.set_num_threads(2)
        torch.manual_seed(0)
    epochs = epochs_per_turn(script)
    training = TRAIN[script](side=side, epochs=turns * epochs)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        *_, score = itertools.islice(training, epochs)
        print(json.dumps({"seconds": (time.perf_counter() - start) / epochs, "score": score,
                          "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)

# --- Growth ---------------------------------------------------------------------------------------------

def growth():
    """Print a line per doubled size of a convolution with 8 x 8 outputs: the cost should about double."""
    rng = np.random.default_rng(0)
    base = {"images": 128, "channels in": 16, "channels out": 32, "kernel height": 5, "kernel width": 5}

    def milliseconds(N, C, K, kH, kW):
        net, seconds = cnn.Sequential(cnn.Conv2d(C, K, (kH, kW), rng)), []
        X = rng.standard_normal((C, 7 + kH, 7 + kW, N), dtype=np.float32)
        dZ = np.ones_like(net.forward(X))
        for _ in range(12):
            start = time.perf_counter()
            net.forward(X)
            net.backward(dZ)
            seconds.append(time.perf_counter() - start)
        return 1000 * statistics.median(seconds)

    print(f"forward and backward of one convolution, {base}: {milliseconds(*base.values()):.2f} ms")
    for name in base:
        doubled = {**base, name: 2 * base[name]}
        pairs = [milliseconds(*doubled.values()) / milliseconds(*base.values()) for _ in range(7)]
        print(f"    {name:13} doubled: {statistics.median(pairs):.2f} times as long")

# --- The comparison -------------------------------------------------------------------------------------

def epochs_per_turn(script):
    return 100 if script == "perceptron" else 1         # its epochs take milliseconds

def compare(script, turns):
    """Let both sides take so many turns, and print how they compare."""
    processes, runs = {}, {"numpy": [], "torch": []}
    for side in runs:
        threads = "1" if side == "numpy" and script in rnn.CELLS else "2"       # see datasets.Halves
        processes[side] = subprocess.Popen(
            [sys.executable, __file__, script, "--side", side, "--epochs", str(turns)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads})
    for side, process in processes.items():
        for line in iter(process.stdout.readline, "ready\n"):
            print(line, end="" if line else sys.exit(f"{script}: {side} failed"))
    for _ in range(turns):
        for side, process in processes.items():
            print(file=process.stdin, flush=True)
            runs[side].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    seconds = {side: [run["seconds"] for run in results] for side, results in runs.items()}
    ratio = statistics.median(seconds["torch"]) / statistics.median(seconds["numpy"])
    low, high = np.quantile(np.divide(seconds["torch"], seconds["numpy"]), [0.25, 0.75])
    print(f"{script}: {ratio:.2f} times as fast as PyTorch ({low:.2f} to {high:.2f} in half of the turns)")
    for side, (*_, last) in runs.items():
        score = (f"error {last['score']:.4f} per pixel" if "auto" in script else
                 f"{last['score']:.2f} nats per character" if script in rnn.CELLS else
                 f"accuracy {100 * last['score']:.2f} %")
        print(f"    {side}  {statistics.median(seconds[side]):6.3g} s per epoch   peak {last['peak']:5.0f} MB   "
              f"test {score} after {turns * epochs_per_turn(script)} epochs", flush=True)

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("scripts", nargs="*", default=list(TRAIN), help=f"of {', '.join(TRAIN)} (all)")
    parser.add_argument("--epochs", type=datasets.number(int, 3), default=5,
                        help="turns of each side, at least 3: PyTorch is slow in its first")
    parser.add_argument("--growth", action="store_true", help="only show how a convolution's cost grows")
    parser.add_argument("--side", choices=["numpy", "torch"], help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not set(args.scripts) <= set(TRAIN):
        parser.error(f"choose from {', '.join(TRAIN)}")
    if args.growth:
        return growth()
    for script in args.scripts:
        if args.side:
            one_side(script, args.side, args.epochs)
        else:
            compare(script, args.epochs)

if __name__ == "__main__":
    main()
