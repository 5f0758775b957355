"""A convolutional net: it looks for the same small patterns everywhere, and for patterns of patterns.

A dense layer has a weight for every pixel, and must learn the same stroke again in every corner of the image.
A convolution has one small kernel per pattern and slides it over the whole image; max pooling keeps the best
match in each neighbourhood, so a shift by one pixel matters less. After two rounds of this, dense layers
decide. The README derives the equations in the right margin, under the same numbers. Code shared with other
scripts is copied verbatim, so some of it may go unused here.

    python cnn.py                                      learn to read the handwritten digits of MNIST
    python cnn.py --dataset fashion                    clothes instead
    python cnn.py --save w.npz                         save what it has learnt
    python cnn.py --load w.npz --predict my_digit.png  then read your own handwriting with it

The first command ends with

    test accuracy 99.15 % (85 of 10,000 wrong) after 44 s
    figure: figures/cnn-mnist.png

Follows LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition" (1998).
"""
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "matplotlib"]
# ///
import math
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import datasets
from datasets import SCORES, UserError, batch_last, finite, in_words, minibatches, one_vector, predict, watch


# --- Layers: a minibatch of N volumes is an array (C, H, W, N): channels, height, width; dV means ∂L/∂V -----

def places(side, kernel, stride, padding=0):
    """How many windows fit along a side; UserError if none."""
    if side + 2 * padding < kernel:
        raise UserError(f"a window of {kernel} is larger than an image of {side} with a padding of {padding}")
    return (side + 2 * padding - kernel) // stride + 1  # (47)  H' = ⌊(H + 2p − kH) / s⌋ + 1

class Layer:
    """forward saves what backward needs. backward takes the gradient of its output, fills the array `dW` of
    each parameter `W` in `params`, and returns the gradient of its input. Results have the dtype of X, W, b:
    for a gradient check make all float64 (and b not 0: at 0 a ReLU has a kink), then a net of the layers."""
    params = {}             # our names for the parameters, and PyTorch's
    needs_dX = True         # False in the first layer of a net in training: its ∂L/∂X is never used
    only_training = False   # True: skipped when the net predicts, as Dropout is

def unroll(X, kernel, s, p):
    """For each output row h, the inputs that kernels see: windows (H', kH C kW, W' N) of X (C, H, W, N)."""
    (C, H, W, N), (kH, kW) = X.shape, kernel
    _, OW = places(H, kH, s, p), places(W, kW, s, p)    # UserError if the kernel fits nowhere
    padded = np.zeros((H + 2 * p, C, W + 2 * p, N), X.dtype)
    padded[p:H + p, :, p:W + p] = X.swapaxes(0, 1)
    columns = [padded[:, :, j:j + s * OW:s] for j in range(kW)]     # what column j of a kernel sees
    lines = np.stack(columns, axis=2).reshape(-1, OW * N)           # one for each y, c, j
    views = sliding_window_view(lines, kH * C * kW, axis=0)         # those from each line on: a view
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
    """The way back from Z to X (C, *size, N): each Z[k,h,w] adds its kernel, times Z[k,h,w], at its place.
    (Conv2d goes back from ∂L/∂Z to ∂L/∂X this way.)"""
    (K, C, kH, kW), (K, OH, OW, N), (height, width) = W.shape, Z.shape, size
    parts = W.transpose(2, 3, 1, 0).reshape(-1, K) @ Z.reshape(K, -1)       # Σₖ W[k,c,i,j] Z[k,h,w]
    parts = parts.reshape(kH, kW, C, OH, OW, N)
    X = np.zeros((C, height + 2 * p, width + 2 * p, N), Z.dtype)
    for i, j in np.ndindex(kH, kW):
        X[:, i:i + s * OH:s, j:j + s * OW:s] += parts[i, j]
    return X[:, p:p + height, p:p + width]

class Conv2d(Layer):
    """K small kernels W (K, C, kH, kW), each laid on every s-th place of the image X (C, H, W, N), padded by
    p zeros: Z (K, H', W', N) says how well it fits there. `kernel` is one side or (kH, kW); b is (K, 1).
    In the margin, place (i, j) of the kernel for Z[k,h,w] lies on y = s h + i − p, x = s w + j − p. Each Σ
    runs over all indices that are not on the left; (49) and (50) also over n, which is left out."""
    params = {"W": "weight", "b": "bias"}

    def __init__(self, C, K, kernel, rng, stride=1, padding=0):
        self.kernel, self.stride, self.padding = np.broadcast_to(kernel, 2).tolist(), stride, padding
        if min(self.kernel) < 1 or stride < 1 or padding < 0:
            raise UserError(f"a convolution cannot have kernel {kernel}, stride {stride}, padding {padding}")
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
        ones = np.ones(dZ[0].size, dZ.dtype)            # a product sums faster than sum()
        self.db[:, 0] = dZ.reshape(len(dZ), -1) @ ones  # (50)  ∂L/∂bₖ = Σ ∂L/∂Z[k,h,w]
        if self.needs_dX:                               # (51)  ∂L/∂X[c,y,x] = Σ W[k,c,i,j] ∂L/∂Z[k,h,w]
            return spread(dZ, self.W, self.stride, self.padding, self.size)

class MaxPool2d(Layer):
    """The largest number in each window of each channel: X (C, H, W, N) to A (C, H', W', N). Windows have
    size `kernel`, one side or (kH, kW), and start `stride` apart (default: side by side). In the margin,
    place (i, j) of the window for A[c,h,w] is y = sH h + i, x = sW w + j."""
    def __init__(self, kernel, stride=None):
        given = kernel, kernel if stride is None else stride        # one number sets both sides
        self.kernel, self.stride = (np.broadcast_to(sides, 2).tolist() for sides in given)
        if min(self.kernel + self.stride) < 1:
            raise UserError(f"pooling cannot have kernel {kernel}, stride {stride}")

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
            dseen += won                                # (53)  ∂L/∂X[c,y,x] = Σ ∂L/∂A[c,h,w]  where it won
        return dX

class Flatten(Layer):
    """Volumes (C, H, W, N) as columns (C H W, N)."""
    def forward(self, X):
        self.shape = X.shape[:-1]
        return X.reshape(-1, X.shape[-1])               # (54)  d = (c H + h) W + w

    def backward(self, dA):
        return dA.reshape(*self.shape, -1)

class Linear(Layer):
    """Weighted sums of all inputs: X (D, N) to Z (K, N) with W (K, D), b (K, 1). W starts random, scaled to
    keep signals stable: init="he" before a ReLU (He et al. 2015), else "xavier" (Glorot & Bengio 2010)."""
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
    layer's W, b, dW, db are views of these: write into them, never replace them. `weights`: W, b by name.
    (A deep copy, or another net of these layers, breaks this. To copy a net, fill the theta of a new one.)"""
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
    """step(share) updates theta in place from its gradient g and two memories: m of past g, s of past g².
    η is `share` times the learning rate `lr`; `weight_decay` is λ in a penalty λ/2 |θ|², adding λ θ to g."""
    def __init__(self, net, lr, weight_decay=0.0):
        self.lr, self.weight_decay, self.t = lr, weight_decay, 0
        arrays = net.theta, net.dtheta, np.zeros_like(net.theta), np.zeros_like(net.theta)
        self.pieces = list(zip(*(np.array_split(a, 1 + a.size // 50_000) for a in arrays)))     # cache-sized

    def step(self, share=1.0):
        self.t += 1
        for theta, g, m, s in self.pieces:
            if self.t % 50 == 0:
                g += 1e-18                              # or m, s sink below 1e-38, if g stays 0: slow
            if self.weight_decay:
                g += self.weight_decay * theta          # (38)  g ← g + λ θ
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

def build(data, args, rng):
    """The net for pictures (n, 1, H, W), its loss and its optimizer, as the options specify."""
    layers, C, blank = [], 1, np.zeros((*data.X_train.shape[1:], 1), np.float32)
    for K in args.channels:                             # ReLU after max pooling: same result, less work
        layers += [Conv2d(C, K, args.kernel_size, rng), MaxPool2d(2), ReLU()]
        C = K
    layers += [Flatten()]
    D = len(reduce(lambda X, layer: layer.forward(X), layers, blank))       # how many numbers are left
    for width in args.hidden:
        layers += [Linear(D, width, rng, "he"), ReLU()]
        D = width
    net = Sequential(*layers, Linear(D, len(data.classes), rng))
    net.layers[0].needs_dX = False
    return net, CrossEntropyLoss(), OPTIMIZERS[args.optimizer](net, args.lr, args.weight_decay)

def multiply_adds(layer, Z):
    """The multiply-adds that a layer needs per example to compute Z (K, H', W', N)."""
    return layer.W.size * math.prod(Z.shape[1:-1]) if layer.params else 0  # (55)  C kH kW K H' W'

def accuracy(Z, y):
    """The share of examples whose largest logit in Z (K, N) is that of the right class, y (N,)."""
    return float(np.mean(Z.argmax(axis=0) == y))

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

def plot(net, data, history, path, show):
    """What the net looks for, what it finds in one picture, where it is wrong, and how it got there."""
    pictures, y, P = data.X_test[:, 0], data.y_test, datasets.probabilities(net, data.X_test)
    order = P[y, np.arange(len(y))].argsort()
    right = order[P.argmax(axis=0)[order] == y[order]]  # hardest first
    example = right[len(right) // 100] if len(right) else order[-1]
    X, maps = batch_last(data.X_test[[example]]), []
    for layer in net.layers:
        X = layer.forward(X)
        if X.ndim == 4 and not isinstance(layer, MaxPool2d):
            what = "what fits where" if isinstance(layer, Conv2d) else "best of 2 x 2, if > 0"
            maps.append((X[..., 0], f"{what}\n{' x '.join(map(str, X.shape[:3]))}"))
    steps = "0123456789abcdefghijk"[:len(maps) + 2]     # panels that follow one picture through the net
    n = len(steps)
    top = "W" * (n // 2) + "C" * (n - n // 2 - 1)
    fig, ax = datasets.figure(f"{top}l;{top}s;{steps};{steps};{'M' * n}", max(13, 2 * n), 9.5)
    names = [datasets.caption(name) for name in data.classes]
    W, title = net.layers[0].W, "first kernels: blue looks for light, red for dark"
    datasets.plot_sheet(ax["W"], W[:, 0], title=title, signed=True)
    datasets.plot_curves(ax["l"], ax["s"], history, "accuracy")
    datasets.plot_confusion(ax["C"], y, P.argmax(axis=0), data.classes)
    datasets.plot_sheet(ax["0"], pictures[[example]], 1, f"one picture\n({names[y[example]]})")
    for panel, (A, title) in zip(steps[1:], maps):
        datasets.plot_sheet(ax[panel], A, title=title, signed=True)
    bars = ax[steps[-1]]
    bars.barh(range(len(P)), P[:, example], alpha=0.5)[y[example]].set_color("C1")
    bars.set_yticks(range(len(P)), names, ha="left", size=min(10, 200 / len(P)))
    bars.tick_params(axis="y", length=0, pad=-4)        # inside: long names would squeeze all panels
    bars.invert_yaxis()
    bars.set(title="probability", xlim=(0, 1))
    datasets.plot_mistakes(ax["M"], pictures, y, P, data.classes)
    datasets.finish(fig, path, show)


# --- The user's own pictures ----------------------------------------------------------------------------

def prepare(file, H, W, turned=False, longest=20):
    """A picture file in the format of the data, (H, W) uint8. If that is 28 x 28, it is treated like MNIST's
    digits: light ink on black, the longer side `longest` pixels, the centre of mass in the middle. Otherwise
    it is only scaled, and inverted if `turned`. UserError if it is blank or not a picture."""
    from PIL import Image
    paper = datasets.read_picture(file)
    if (H, W) != (28, 28):
        grey = np.asarray(paper.resize((W, H)))
        return 255 - grey if turned else grey
    paper.thumbnail((150, 150))
    grey = np.asarray(paper, np.float64)
    terms = np.stack([np.ones(grey.size), *np.indices(grey.shape).reshape(2, -1)], axis=1)
    light = terms @ np.linalg.lstsq(terms, grey.ravel(), rcond=None)[0]         # may be uneven: a plane
    ink = grey - light.reshape(grey.shape)              # ink is rare but far from 0: its sign wins in Σ ink³
    ink = np.maximum(ink * np.sign(np.sum(ink ** 3)), 0)            # dark on light, or light on dark
    if ink.max() < 32:
        raise UserError(f"{file} is blank: its greys range from {grey.min():.0f} to {grey.max():.0f}")
    ink[ink < 0.4 * ink.max()] = 0                      # no shadows, no paper grain
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    h, w = (max(1, round(longest / max(ink.shape) * side)) for side in ink.shape)
    ink = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((w, h), Image.Resampling.BILINEAR))
    picture = np.zeros((H, W), np.uint8)
    y = np.arange(h) @ ink.sum(axis=1) / ink.sum()      # (56)  ȳ = Σ y ink / Σ ink
    x = np.arange(w) @ ink.sum(axis=0) / ink.sum()
    top, left = np.clip(round(14 - y), 0, 28 - h), np.clip(round(14 - x), 0, 28 - w)
    picture[top:top + h, left:left + w] = 255 * ink / ink.max()
    return picture

def classify(net, files, pictures, classes, path, show):
    """Print the three likeliest classes of each picture (n, H, W), and draw it as the net saw it."""
    P = datasets.probabilities(net, pictures[:, None])
    columns = min(len(files), 6)
    layout = np.arange(math.ceil(len(files) / columns) * columns).reshape(-1, columns)
    fig, ax = datasets.figure(layout.tolist(), 2.2 * columns, 3.2 * len(layout))
    for panel in ax.values():
        panel.axis("off")
    for panel, file, picture, p in zip(ax.values(), files, pictures, P.T):
        best = [(classes[k], f"({100 * p[k]:.1f} %)") for k in p.argsort()[:-4:-1]]
        print(f"{file}: {', '.join(f'{name} {share}' for name, share in best)}")
        lines = [f"{datasets.caption(name)} {share}" for name, share in best]
        title = "\n".join([datasets.caption(Path(file).name, 20), *lines])
        datasets.plot_sheet(panel, picture[None], title=title)
    datasets.finish(fig, path, show)
    return P


# --- Command line ---------------------------------------------------------------------------------------

USUAL = dict(epochs=8, batch_size=32, lr=0.002, weight_decay=0)

def parse_args(argv=None):
    parser = datasets.parser(__doc__, "mnist", "digits, fashion, kmnist, cats-dogs", OPTIMIZERS)
    option, number = parser.add_argument, datasets.number
    option("--channels", type=number(int, 1), nargs="+", default=[10, 20], metavar="K",
           help="number of kernels in each convolution: more see more, but cost more")
    option("--kernel-size", type=number(int, 1), default=5, metavar="SIDE", help="side of them all")
    option("--hidden", type=number(int, 1), nargs="*", default=[64], metavar="UNITS",
           help="width of each dense layer before the last; may be none")
    option("--predict", nargs="+", metavar="PICTURE", help="classify these; with --load, skip training")
    return parser.parse_args(argv)

def main(argv=None):
    """Run the script with the command line argv; return what came out."""
    args = parse_args(argv)
    rng = np.random.default_rng(args.seed)
    only_predict = args.predict and args.load and args.epochs is None
    name = args.dataset or "mnist"
    if only_predict and name == "mnist":
        name = "digits"                                 # the same kind of pictures, and no download
    data = datasets.load(name, args.seed, fallback=None if args.dataset else "digits")
    data = datasets.as_pictures(data)
    datasets.fill_in(args, USUAL, len(data.X_train))
    net, loss, optimizer = build(data, args, rng)
    if args.load:
        datasets.read_weights(args.load, net.weights)
    shape = data.X_train.shape[2:]
    longest = 20 if data.name in ("mnist", "digits") else 28        # other pictures fill their frame
    pictures = [prepare(file, *shape, data.turned, longest) for file in args.predict or []]
    out = {"net": net}
    if not only_predict:
        datasets.summary(f"cnn.py learns {data.name}", data, net, {"multiply-adds": multiply_adds})
        training = train(net, loss, optimizer, data, args.epochs, args.batch_size, rng)
        history, _, seconds = watch(training, args.epochs, SCORES)
        Z, y = predict(net, data.X_test), data.y_test
        score = accuracy(Z, y)
        print(f"test {in_words(score, len(y))} after {seconds:.0f} s")
        if args.save:
            np.savez(args.save, **net.weights)
        plot(net, data, history, args.figure or f"figures/cnn-{data.name}.png", not args.no_show)
        out.update(score=score, loss=loss.forward(Z, y), history=history, seconds=seconds)
    if pictures:
        figure = args.figure if only_predict and args.figure else "figures/cnn-predictions.png"
        out["P"] = classify(net, args.predict, np.stack(pictures), data.classes, figure, not args.no_show)
    return out


if __name__ == "__main__":
    datasets.run(main)
