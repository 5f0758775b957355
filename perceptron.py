"""One neuron: a weighted sum, an activation, and a rule for learning from its errors.

The neuron adds up its inputs, each times a weight, and answers with a probability (logistic regression) or
with yes or no (Rosenblatt's perceptron). Either way, it then moves each weight by error times input: the two
classic rules share the same lines of code and differ only in the activation. One neuron can only tell on
which side of a straight line an example lies. On `xor` and `circles` that is not enough: watch it fail, then
go on to mlp.py.

    python perceptron.py                               two clouds of points, the line between them
    python perceptron.py --rule rosenblatt             the same, answering yes or no
    python perceptron.py --dataset mnist --classes 3 8
    python perceptron.py --dataset cats-dogs           overfits: memorises the photographs

The first command ends with

    test accuracy 95.50 % (9 of 200 wrong) after 0 s
    figure: figures/perceptron-blobs.png

Follows Rosenblatt, "The perceptron" (1958), and Cox, "The regression analysis of binary sequences" (1958).
"""
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "matplotlib"]
# ///
import math

import numpy as np

import datasets
from datasets import SCORES, Data, UserError, batch_last, finite, in_words, minibatches, watch

# --- The neuron: X (D, N) has N examples in columns, z and a are (1, N), dv means ∂L/∂v -----------------

def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))                 # (1)  σ(z) = 1 / (1 + e⁻ᶻ) = ½ (1 + tanh ½z)

def log_loss(z, y):
    losses = np.logaddexp(0, z) - y * z                 # logaddexp(0, z) = ln(1 + eᶻ), for any z
    return float(losses.mean())                         # (2)  L = 1/N Σ (ln(1 + eᶻ) − y · z)

def step(z):
    return (z > 0).astype(z.dtype)                      # (3)  [z > 0]

def perceptron_loss(z, y):
    return float(np.mean((step(z) - y) * z))            # (4)  L = 1/N Σ ([z > 0] − y) · z

RULES = {"logistic": (sigmoid, log_loss), "rosenblatt": (step, perceptron_loss)}

class Perceptron:
    """D inputs, one output a: w (D, 1), b (1, 1) start at zero; `rule` names the activation and its loss."""
    def __init__(self, D, rule="logistic"):
        self.w, self.b = np.zeros((D, 1), np.float32), np.zeros((1, 1), np.float32)
        self.activation, self.loss = RULES[rule]

    def forward(self, X):
        self.X = X                                      # kept for (8)
        self.z = self.w.T @ X + self.b                  # (5)  z = wᵀ X + b                       (1, N)
        self.a = self.activation(self.z)                # (6)  a = σ(z) or [z > 0]                (1, N)
        return self.a

    def backward(self, y):
        dz = (self.a - y) / y.size                      # (7)  ∂L/∂z = 1/N (a − y)                (1, N)
        self.dw = self.X @ dz.T                         # (8)  ∂L/∂w = X (∂L/∂z)ᵀ                 (D, 1)
        self.db = dz.sum(axis=1, keepdims=True)         # (9)  ∂L/∂b = Σₙ ∂L/∂zₙ                  (1, 1)

    def update(self, lr):
        self.w -= lr * self.dw                          # (10) w ← w − η ∂L/∂w
        self.b -= lr * self.db                          # (11) b ← b − η ∂L/∂b

    @property
    def weights(self):
        """The parameters (views), named and shaped as in torch.nn.Linear: weight (1, D), bias (1,)."""
        return {"weight": self.w.T, "bias": self.b[0]}

# --- Training -------------------------------------------------------------------------------------------

def evaluate(neuron, X, y):
    """The loss and the accuracy on all of X (n, D), y (n, 1)."""
    y = batch_last(y)
    a = neuron.forward(batch_last(X))
    return neuron.loss(neuron.z, y), float(np.mean((a > 0.5) == y))

def train(neuron, data, epochs, batch_size, lr, rng):
    """Gradient descent: a generator that yields train and test loss and accuracy after each epoch."""
    for epoch in range(1, epochs + 1):
        for X, y in minibatches(data.X_train, data.y_train, batch_size, rng, f"epoch {epoch}/{epochs}"):
            neuron.forward(X)
            neuron.backward(y)
            neuron.update(lr)
        L, accuracy = evaluate(neuron, data.X_train, data.y_train)
        finite(L, epoch * math.ceil(len(data.X_train) / batch_size), lr)
        yield L, accuracy, *evaluate(neuron, data.X_test, data.y_test)

# --- Figure ---------------------------------------------------------------------------------------------

def plot(neuron, data, pictures, history, path, file, show):
    """What the neuron has learnt, what it answers, and how it got there."""
    X, y, D = data.X_test, data.y_test[:, 0].astype(int), data.X_test.shape[1]
    a = neuron.forward(batch_last(X))[0]
    z = neuron.z[0]
    names = [datasets.caption(name) for name in data.classes]
    layout, height = ("WWzl;WWza", 5) if pictures is None else ("WWzl;WWza;MMMM", 7.5)
    fig, ax = datasets.figure(layout, 13, height)
    datasets.plot_curves(ax["l"], ax["a"], history, "accuracy")
    if pictures is not None:
        title = f"weights: blue speaks for {names[0]}, red for {names[1]}"
        datasets.plot_sheet(ax["W"], -neuron.w.reshape(1, *pictures[0].shape), title, signed=True)
        datasets.plot_mistakes(ax["M"], pictures, y, np.stack([1 - a, a]), data.classes)
    elif D == 2:
        def answer(points):
            a = neuron.forward(points.T)
            return np.vstack([1 - a, a])

        x1, x2 = datasets.plot_plane(ax["W"], answer, X, y, "the line after epochs 1, 2, 4, ... (late: dark)")
        for age, (w, b) in enumerate(reversed(path.values())):
            if w.any():
                ax["W"].contour(x1, x2, w[0] * x1 + w[1] * x2 + b[0], [0], colors="black", alpha=0.7 ** age)
    else:
        ax["W"].barh(range(D), neuron.w[:, 0], color=datasets.COLORS[(neuron.w[:, 0] > 0).astype(int)])
        ax["W"].set(title=f"weights: positive is for {names[1]}", ylabel="feature", yticks=range(D))
    line = np.linspace(z.min(), z.max(), 301)
    for k in 0, 1:
        ax["z"].hist(z[y == k], line[::10], histtype="stepfilled", alpha=0.6, label=names[k])
    twin = ax["z"].twinx()
    twin.plot(line, neuron.activation(line), color="black")
    twin.set(ylabel="answer a", ylim=(-0.02, 1.15))
    ax["z"].set(title="the test examples by their z", xlabel="z", ylabel="examples", ymargin=0.15)
    ax["z"].legend(loc="upper left", ncols=2)
    datasets.finish(fig, file, show)

# --- Command line ---------------------------------------------------------------------------------------

def two_classes(data, names):
    """The examples of the two named classes (default: the last two), one per row, centred and scaled, with
    labels y (n, 1) of 0 or 1; and the test pictures, or None if the data are not pictures."""
    if not data.classes:
        raise UserError(f"{data.name} has numbers to predict, not classes: try mlp.py --dataset {data.name}")
    chosen = [data.classes.index(name) for name in (names or data.classes[-2:]) if name in data.classes]
    train, test = np.isin(data.y_train, chosen), np.isin(data.y_test, chosen)
    if len(set(data.y_train[train])) != 2 or not test.any():
        raise UserError(f"--classes needs two different ones, with examples, of: {', '.join(data.classes)}")
    X_train, X_test = (X.reshape(len(X), -1) for X in (data.X_train[train], data.X_test[test]))
    scale = 255 if X_train.dtype == np.uint8 else X_train.std(axis=0)
    mean = X_train.mean(axis=0, dtype=np.float32)
    y_train, y_test = (np.float32(y[:, None] == chosen[1]) for y in (data.y_train[train], data.y_test[test]))
    pictures = data.X_test[test] if X_train.dtype == np.uint8 else None
    return Data(data.name, (X_train - mean) / scale, y_train, (X_test - mean) / scale, y_test,
                [data.classes[k] for k in chosen]), pictures

POINTS, IMAGES = dict(epochs=100, lr=0.5), dict(epochs=50, batch_size=32, lr=0.03)

def main(argv=None):
    """Run the script with the command line argv; return what came out."""
    parser = datasets.parser(__doc__, "blobs", "iris, xor, circles, moons, mnist, digits, cats-dogs, ...",
                             points=POINTS, images=IMAGES)
    parser.add_argument("--rule", choices=RULES, default="logistic", help="answer: probability or yes/no")
    parser.add_argument("--classes", nargs=2, metavar="NAME", help="the classes to tell apart (the last two)")
    args = parser.parse_args(argv)

    rng = np.random.default_rng(args.seed)
    data, pictures = two_classes(datasets.load(args.dataset or "blobs", args.seed), args.classes)
    n, points = len(data.X_train), pictures is None
    usual = {**POINTS, "batch_size": n} if points else IMAGES       # points: all in one minibatch
    datasets.fill_in(args, usual, examples=0 if points else n)      # 0: as many epochs as usual
    neuron = Perceptron(data.X_train.shape[1], args.rule)
    datasets.read_weights(args.load, neuron.weights)
    print(f"perceptron.py learns {data.name}, {' or '.join(data.classes)}: {len(data.X_train):,} examples to "
          f"train on, {len(data.X_test):,} to test on, {neuron.w.size + 1:,} parameters", flush=True)
    training = train(neuron, data, args.epochs, args.batch_size, args.lr, rng)
    history, path, seconds = watch(training, args.epochs, SCORES,
                                   keep=lambda: (neuron.w.copy(), neuron.b.copy()))
    L, accuracy = evaluate(neuron, data.X_test, data.y_test)
    print(f"test {in_words(accuracy, len(data.y_test))} after {seconds:.0f} s")
    datasets.write_weights(args.save, neuron.weights)
    figure = args.figure or f"figures/perceptron-{data.name}.png"
    plot(neuron, data, pictures, history, path, figure, not args.no_show)
    return {"accuracy": accuracy, "loss": L, "history": history, "neuron": neuron}

if __name__ == "__main__":
    datasets.run(main)
