"""A convolutional net: it looks for the same small patterns everywhere, and for patterns of patterns.

A dense layer has a weight for every pixel, and must learn the same stroke again in every corner of the image.
A convolution has one small kernel per pattern and slides it over the whole image; max pooling keeps the best
match in each neighbourhood, so a shift by a pixel matters less. After two such rounds, dense layers decide.
The README derives the equations in the right margin, by number. Shared layers are copied verbatim.

    python cnn.py                                      learn to read the handwritten digits of MNIST
    python cnn.py --load w.npz --predict my_digit.png  read your own handwriting (after --save w.npz)

The first command ends with

    test accuracy 99.18 % (82 of 10,000 wrong) after 49 s
    figure: figures/cnn-mnist.png

Follows LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition" (1998).
"""
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "matplotlib"]
# ///
import math
from functools import reduce
from itertools import pairwise

import numpy as np

import datasets
from datasets import SCORES, UserError, accuracy, finite, minibatches, one_vector, predict, watch

# --- Layers: a minibatch of N volumes is an array (C, H, W, N): channels, height, width; dV means ∂L/∂V -----

def places(side, kernel, stride, padding=0):
    """How many windows of size `kernel`, `stride` apart, fit along a side; UserError if none."""
    if min(kernel, stride, padding + 1) < 1 or side + 2 * padding < kernel:
        raise UserError(f"kernel {kernel}, stride {stride} do not fit {side} + 2 x {padding}: a smaller one?")
    return (side + 2 * padding - kernel) // stride + 1  # (47)  H' = ⌊(H + 2p − kH) / s⌋ + 1

class Layer:
    """forward saves what backward needs. backward takes the gradient of its output, fills in place the `dW`
    of each parameter `W` in `params`, and returns that of its input. X, W, b, dW, db share one dtype."""
    params = {}             # our names for the parameters, and PyTorch's
    needs_dX = True         # False: backward may skip ∂L/∂X, as nobody needs it of a net's first layer
    only_training = False   # True: skipped when the net predicts, as Dropout is (in mlp.py)

def unroll(X, kernel, s, p):
    """For each output row h, the inputs that kernels see: windows (H', kH C kW, W' N) of X (C, H, W, N)."""
    (C, H, W, N), (kH, kW) = X.shape, kernel
    _, OW = places(H, kH, s, p), places(W, kW, s, p)    # UserError if the kernel fits nowhere
    padded = np.zeros((H + 2 * p, C, W + 2 * p, N), X.dtype)
    padded[p:H + p, :, p:W + p] = X.swapaxes(0, 1)
    columns = [padded[:, :, j:j + s * OW:s] for j in range(kW)]     # what column j of a kernel sees
    lines = np.stack(columns, axis=2).reshape(-1, OW * N)           # one for each y, c, j
    views = np.lib.stride_tricks.sliding_window_view(lines, kH * C * kW, axis=0)    # from each line on
    return views[::s * C * kW].swapaxes(1, 2)           # for each output row

def correlate(windows, W, N):
    """How well each kernel of W (K, C, kH, kW) fits each place of N unrolled images: Z (K, H', W', N)."""
    kernels = W.swapaxes(1, 2).reshape(len(W), -1)      # (K, kH C kW), ordered as in windows: i, c, j
    Z = np.empty((len(W), len(windows), windows.shape[2]), windows.dtype)
    np.matmul(kernels, windows, out=Z.swapaxes(0, 1))   # one product for each row of Z
    return Z.reshape(*Z.shape[:2], -1, N)

def kernel_gradient(windows, dZ, dW):
    """Fill dW (K, C, kH, kW), given ∂L/∂Z of Z = correlate(windows, W, N)."""
    K, C, kH, kW = dW.shape
    products = windows @ dZ.reshape(K, len(windows), -1).transpose(1, 2, 0)             # (H', kH C kW, K)
    dW[...] = products.sum(axis=0).reshape(kH, C, kW, K).transpose(3, 1, 0, 2)

def spread(Z, W, s, p, size):
    """The way back from Z (or ∂L/∂Z) to X (C, *size, N): each Z[k,h,w] adds its kernel, times Z[k,h,w]."""
    (K, C, kH, kW), (K, OH, OW, N), (height, width) = W.shape, Z.shape, size
    parts = W.transpose(2, 3, 1, 0).reshape(-1, K) @ Z.reshape(K, -1)       # Σₖ W[k,c,i,j] Z[k,h,w]
    parts = parts.reshape(kH, kW, C, OH, OW, N)
    X = np.zeros((C, height + 2 * p, width + 2 * p, N), Z.dtype)
    for i, j in np.ndindex(kH, kW):
        X[:, i:i + s * OH:s, j:j + s * OW:s] += parts[i, j]
    return X[:, p:p + height, p:p + width]

class Conv2d(Layer):
    """K kernels W (K, C, kH, kW), each laid on every s-th place of X (C, H, W, N), padded by p zeros: Z
    (K, H', W', N) says how well it fits there. `kernel` is a number or (kH, kW). Place (i, j) for Z[k,h,w] is
    y = s h + i − p, x = s w + j − p. Each Σ: all indices missing on the left; in (49), (50) also n."""
    params = {"W": "weight", "b": "bias"}

    def __init__(self, C, K, kernel, rng, stride=1, padding=0):
        self.kernel, self.stride, self.padding = np.broadcast_to(kernel, 2).tolist(), stride, padding
        deviation = math.sqrt(2 / (C * math.prod(self.kernel)))  # (12)  Var W = 2 / D,  D = C kH kW
        self.W = deviation * rng.standard_normal((K, C, *self.kernel), dtype=np.float32)
        self.b = np.zeros((K, 1), np.float32)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, X):
        self.size, self.windows = X.shape[1:3], unroll(X, self.kernel, self.stride, self.padding)
        Z = correlate(self.windows, self.W, X.shape[-1])
        Z += self.b[:, :, None, None]                   # (48)  Z[k,h,w] = Σ W[k,c,i,j] X[c,y,x] + bₖ
        return Z

    def backward(self, dZ):
        kernel_gradient(self.windows, dZ, self.dW)      # (49)  ∂L/∂W[k,c,i,j] = Σ ∂L/∂Z[k,h,w] X[c,y,x]
        dZ.sum(axis=(1, 2, 3), out=self.db[:, 0])       # (50)  ∂L/∂bₖ = Σ ∂L/∂Z[k,h,w]
        if self.needs_dX:                               # (51)  ∂L/∂X[c,y,x] = Σ W[k,c,i,j] ∂L/∂Z[k,h,w]
            return spread(dZ, self.W, self.stride, self.padding, self.size)

class MaxPool2d(Layer):
    """The largest number in each window: X (C, H, W, N) to A (C, H', W', N). `kernel` and `stride` (default:
    as `kernel`) are a number or a pair. Place (i, j) for A[c,h,w] is y = sH h + i, x = sW w + j."""
    def __init__(self, kernel, stride=None):
        given = kernel, kernel if stride is None else stride        # one number sets both sides
        self.kernel, self.stride = (np.broadcast_to(sides, 2).tolist() for sides in given)

    def by_place(self, X):
        """For each place in a window, row by row, the values there in all windows: views (C, H', W', N)."""
        (kH, kW), (sH, sW) = self.kernel, self.stride
        OH, OW = places(X.shape[1], kH, sH), places(X.shape[2], kW, sW)
        return [X[:, i:i + sH * OH:sH, j:j + sW * OW:sW] for i in range(kH) for j in range(kW)]

    def forward(self, X):
        self.X = X
        self.A = reduce(np.maximum, self.by_place(X))   # (52)  A[c,h,w] = maxᵢⱼ X[c,y,x]
        return self.A

    def backward(self, dA):
        dX, left = np.zeros_like(self.X), dA.copy()
        for seen, dseen in zip(self.by_place(self.X), self.by_place(dX)):
            won = left * (seen == self.A)
            left -= won                                 # in a tie, the first in its window takes all
            dseen += won                                # (53)  ∂L/∂X[c,y,x] = Σ ∂L/∂A[c,h,w] where (y, x) won
        return dX

class Flatten(Layer):
    """Volumes (C, H, W, N) as columns (C H W, N)."""
    def forward(self, X):
        self.shape = X.shape[:-1]
        return X.reshape(-1, X.shape[-1])               # (54)  d = (c H + h) W + w,  of X (C, H, W, N)

    def backward(self, dA):
        return dA.reshape(*self.shape, -1)

class Linear(Layer):
    """Weighted sums of all inputs: X (D, N) to Z (K, N) with W (K, D), b (K, 1). W starts random, scaled to
    keep signals stable: init="he" suits a ReLU (He et al. 2015), "xavier" others (Glorot & Bengio 2010)."""
    params = {"W": "weight", "b": "bias"}

    def __init__(self, D, K, rng, init="xavier"):
        variance = {"he": 2 / D,                        # (12)  Var W = 2 / D
                    "xavier": 2 / (D + K)}[init]        # (13)  Var W = 2 / (D + K)
        self.W = math.sqrt(variance) * rng.standard_normal((K, D), dtype=np.float32)
        self.b = np.zeros((K, 1), np.float32)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, X):
        self.X = X                                      # kept for (15)
        return self.W @ X + self.b                      # (14)  Z = W X + b                       (K, N)

    def backward(self, dZ):
        np.matmul(dZ, self.X.T, out=self.dW)            # (15)  ∂L/∂W = ∂L/∂Z Xᵀ                  (K, D)
        np.sum(dZ, axis=1, keepdims=True, out=self.db)  # (16)  ∂L/∂bₖ = Σₙ ∂L/∂Zₖₙ               (K, 1)
        if self.needs_dX:
            return self.W.T @ dZ                        # (17)  ∂L/∂X = Wᵀ ∂L/∂Z                  (D, N)

class ReLU(Layer):
    """Lets the positive part through."""
    def forward(self, Z):
        self.A = np.maximum(Z, 0)                       # (22)  A = max(Z, 0)
        return self.A

    def backward(self, dA):
        return dA * (self.A > 0)                        # (23)  ∂L/∂Z = ∂L/∂A · [A > 0]

class Sequential:
    """Layers in sequence. All parameters share one vector `theta`, all gradients one vector `dtheta`; each
    layer's W, b, dW, db are views of these: write into them, never replace them. `weights`: as in PyTorch."""
    def __init__(self, *layers):
        self.layers = layers
        self.theta, self.dtheta, self.weights = one_vector(dict(enumerate(layers)))

    def forward(self, X, training=False):
        for layer in self.layers:
            if training or not layer.only_training:
                X = layer.forward(X)                    # (29)  Xₗ = fₗ(Xₗ₋₁),  l = 1, 2, …
        return X

    def backward(self, dX):
        """Given ∂L/∂X of the output of a training pass, fill dtheta; return ∂L/∂X of the input, if needed."""
        for layer in reversed(self.layers):
            dX = layer.backward(dX)                     # (30)  ∂L/∂Xₗ₋₁ = (∂Xₗ/∂Xₗ₋₁)ᵀ ∂L/∂Xₗ,  l = …, 2, 1
        return dX

# --- Loss and optimizers, as in mlp.py ------------------------------------------------------------------

class CrossEntropyLoss:
    """Minus log-probability of the right class under softmax(Z): logits Z (K, N), class numbers y (N,)."""
    def forward(self, Z, y):
        self.right = y.ravel(), np.arange(y.size)       # indices (yₙ, n) of the right classes
        Z = Z - Z.max(axis=0)                           # the maximum cancels in (35): no overflow
        self.lnP = Z - np.log(np.exp(Z).sum(axis=0))    # (35)  ln Pₖ = Zₖ − ln Σⱼ exp Zⱼ         (K, N)
        return -float(self.lnP[self.right].mean())      # (36)  L = −1/N Σₙ ln P[yₙ, n]

    def backward(self):
        dZ = np.exp(self.lnP)
        dZ[self.right] -= 1
        return dZ / dZ.shape[1]                         # (37)  ∂L/∂Zₖ = 1/N (Pₖ − [k = y])       (K, N)

class Optimizer:
    """step(share) updates theta from its gradient g and two memories, m of past g, s of past g²: views,
    always written in place. η is `share` times the rate `lr`; `weight_decay` is λ in a penalty λ/2 |θ|²."""
    def __init__(self, net, lr, weight_decay=0.0):
        self.lr, self.weight_decay, self.t = lr, weight_decay, 0
        arrays = net.theta, net.dtheta, np.zeros_like(net.theta), np.zeros_like(net.theta)
        self.pieces = list(zip(*(np.array_split(a, 1 + a.size // 50_000) for a in arrays)))     # cache-sized

    def step(self, share=1.0):
        self.t += 1
        for theta, g, m, s in self.pieces:
            if self.weight_decay or self.t % 50 == 0:   # if g stays 0, 1e-18 keeps m, s > 1e-38: less is slow
                g += self.weight_decay * theta + 1e-18  # (38)  g ← g + λ θ
            self.update(self.lr * share, theta, g, m, s)

class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Polyak 1964)."""
    def update(self, eta, theta, g, m, s, mu=0.9):
        m[:] = mu * m + g                               # (39)  m ← μ m + g
        theta -= eta * m                                # (40)  θ ← θ − η m

class RMSprop(Optimizer):
    """Divides each gradient by its typical size (Tieleman & Hinton 2012)."""
    def update(self, eta, theta, g, m, s, rho=0.99, eps=1e-8):
        s[:] = rho * s + (1 - rho) * g * g              # (41)  s ← ρ s + (1 − ρ) g²
        theta -= eta * g / (np.sqrt(s) + eps)           # (42)  θ ← θ − η g / (√s + ε)

class Adam(Optimizer):
    """Momentum, divided by the typical size; c1, c2 turn the sums m, s into averages (Kingma & Ba 2015)."""
    def update(self, eta, theta, g, m, s, beta1=0.9, beta2=0.999, eps=1e-8):
        m *= beta1
        m += g                                          # (43)  m ← β₁ m + g
        s *= beta2
        s += g * g                                      # (44)  s ← β₂ s + g²
        c1, c2 = (1 - beta1 ** self.t) / (1 - beta1), (1 - beta2 ** self.t) / (1 - beta2)
        eta, eps = eta * math.sqrt(c2) / c1, eps * math.sqrt(c2)        # √c₂ in numerator and denominator
        theta -= eta * m / (np.sqrt(s) + eps)           # (45)  θ ← θ − η (m / c₁) / (√(s / c₂) + ε)

# --- Training -------------------------------------------------------------------------------------------

OPTIMIZERS = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}
USUAL = dict(channels=[10, 20], kernel_size=5, hidden=[64], epochs=6, batch_size=32, lr=0.002, weight_decay=0)

def build(data, args, rng):
    """The net for pictures (n, 1, H, W), its loss and its optimizer, as the options specify."""
    layers, X = [], np.zeros((*data.X_train.shape[1:], 1), np.float32)
    for C, K in pairwise([1, *args.channels]):          # ReLU after pooling: same as before it, less work
        layers += [Conv2d(C, K, args.kernel_size, rng), MaxPool2d(2), ReLU()]
    layers += [Flatten()]
    widths = [len(Sequential(*layers).forward(X)), *args.hidden]
    for D, K in pairwise(widths):
        layers += [Linear(D, K, rng, "he"), ReLU()]
    net = Sequential(*layers, Linear(widths[-1], len(data.classes), rng))
    net.layers[0].needs_dX = False
    return net, CrossEntropyLoss(), OPTIMIZERS[args.optimizer](net, args.lr, args.weight_decay)

def multiply_adds(layer, Z):
    """The multiply-adds that a layer needs per example to compute Z (K, H', W', N)."""
    return layer.W.size * math.prod(Z.shape[1:-1]) if layer.params else 0  # (55)  C kH kW K H' W'

def train(net, loss, optimizer, data, epochs, batch_size, rng):
    """Fit the net: a generator that yields, after each epoch, train loss, train accuracy, test loss, test
    accuracy. Train values are averages over its minibatches. UserError if the loss is not finite."""
    step, steps = 0, epochs * math.ceil(len(data.X_train) / batch_size)
    for epoch in range(1, epochs + 1):
        sums = np.zeros(2)
        for X, y in minibatches(data.X_train, data.y_train, batch_size, rng, f"epoch {epoch}/{epochs}"):
            Z = net.forward(X, training=True)
            L = finite(loss.forward(Z, y), step + 1, optimizer.lr)
            net.backward(loss.backward())
            optimizer.step(1 - step / steps)            # (46)  η = η₀ (1 − t / T)
            step += 1
            sums += np.array([L, accuracy(Z, y)]) * len(y)
        Z, y = predict(net, data.X_test), data.y_test
        yield *sums / len(data.X_train), finite(loss.forward(Z, y), step, optimizer.lr), accuracy(Z, y)

# --- Figures --------------------------------------------------------------------------------------------

def plot(net, kernels, data, history, path, show):
    """What the net looks for, what it finds in one picture, where it is wrong, and how it got there."""
    pictures, y, P = data.X_test[:, 0], data.y_test, datasets.probabilities(net, data.X_test)
    order = np.where(P.argmax(axis=0) == y, P[y, np.arange(len(y))], 2).argsort()       # misread ones last
    example = order[len(y) // 100]                      # a hard one
    sheets = datasets.follow(net, data, example, Conv2d="what fits where", ReLU="best of 2 x 2, if > 0")
    n = len(sheets) + 1
    panels, top = "0123456789abcdefghijk"[:n], "W" * (n // 2) + "C" * (n - n // 2 - 1)
    fig, ax = datasets.figure(f"{top}l;{top}s;{panels};{'M' * n}", max(13, 2 * n), 8.5)
    title, start = ("change of the kernels", kernels[0]) if len(kernels) > 1 else ("kernels", 0)
    title += ": blue likes light, red dark"
    datasets.plot_sheet(ax["W"], net.layers[0].W[:, 0] - start, title, signed=True)
    datasets.plot_curves(ax["l"], ax["s"], history, "accuracy")
    datasets.plot_confusion(ax["C"], y, P.argmax(axis=0), data.classes)
    for panel, sheet in zip(panels, sheets):
        datasets.plot_sheet(ax[panel], *sheet)
    datasets.plot_probabilities(ax[panels[-1]], P[:, example], y[example], data.classes)
    datasets.plot_mistakes(ax["M"], pictures, y, P, data.classes)
    datasets.finish(fig, path, show)

# --- Command line ---------------------------------------------------------------------------------------

def parse_args(argv=None):
    parser = datasets.parser(__doc__, "mnist", "digits, fashion, kmnist, cats-dogs", OPTIMIZERS, images=USUAL)
    option, number = parser.add_argument, datasets.number
    option("--channels", type=number(int, 1), nargs="+", metavar="K", help="kernels of each convolution")
    option("--kernel-size", type=number(int, 1), metavar="SIDE", help="side of all kernels")
    option("--hidden", type=number(int, 1), nargs="*", metavar="UNITS", help="width of each dense layer")
    option("--predict", nargs="+", metavar="PICTURE", help="classify these; with --load, skip training")
    return parser.parse_args(argv)

def main(argv=None):
    """Run the script with the command line argv; return what came out."""
    args = parse_args(argv)
    rng, only_predict = np.random.default_rng(args.seed), args.predict and args.load and args.epochs is None
    name = args.dataset or ("digits" if only_predict else None)     # like MNIST, but without a download
    data = datasets.as_pictures(datasets.load(name, args.seed))
    datasets.fill_in(args, USUAL, len(data.X_train))
    net, loss, optimizer = build(data, args, rng)
    datasets.read_weights(args.load, net.weights)
    pictures, out = [datasets.prepare(file, data) for file in args.predict or []], {"net": net}
    if not only_predict:
        datasets.summary(f"cnn.py learns {data.name}", data, net, {"multiply-adds": multiply_adds})
        training = train(net, loss, optimizer, data, args.epochs, args.batch_size, rng)
        history, kernels, seconds = watch(training, args.epochs, SCORES, keep=net.layers[0].W[:, 0].copy)
        Z, y = predict(net, data.X_test), data.y_test
        print(f"test {datasets.in_words(accuracy(Z, y), len(y))} after {seconds:.0f} s")
        out.update(score=accuracy(Z, y), loss=loss.forward(Z, y), history=history, seconds=seconds)
    datasets.write_weights(args.save, net.weights)
    if not only_predict:
        plot(net, kernels, data, history, args.figure or f"figures/cnn-{data.name}.png", not args.no_show)
    if pictures:
        figure = args.figure if only_predict and args.figure else "figures/cnn-predictions.png"
        out["P"] = datasets.classify(net, args.predict, pictures, data.classes, figure, not args.no_show)
    return out

if __name__ == "__main__":
    datasets.run(main)
