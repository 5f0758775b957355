"""An autoencoder: squeeze every picture through a few numbers and back, and look at what those numbers mean.

An encoder turns a picture into a handful of codes, a decoder turns codes into a picture; both are trained
together to reproduce the input. Nobody says what the codes should mean, but as a few numbers must do for
all pictures, they come to hold what tells them apart: slant, width, which digit. With --conv, strided
convolutions go down and transposed ones up; the forward pass of one is the backward pass of the other. The
README derives the equations in the right margin, under the same numbers. Code shared with other scripts is
copied verbatim, so some of it may go unused here.

    python autoencoder.py                              each digit of MNIST in 32 numbers
    python autoencoder.py --latent 2                   in two: all digits in one plane
    python autoencoder.py --latent 2 8 32 --classify   how many does it take, and what are they good for?
    python autoencoder.py --mask 0.5 --labels 100      fill in what is missing, and learn from few labels

The first command ends with

    test error 0.0049 per pixel (PCA: 0.0168) after 49 s
    figure: figures/autoencoder-mnist.png

Follows Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks" (2006).
"""
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "matplotlib"]
# ///
import math
from copy import copy
from itertools import product

import numpy as np

import datasets
from datasets import UserError, finite, minibatches, one_vector, predict, watch

# --- Layers: vectors (D, N) or volumes (C, H, W, N), N of them in a minibatch; dV means ∂L/∂V --------------

class Layer:
    """forward saves what backward needs. backward takes the gradient of its output, fills in place the `dW`
    of each parameter `W` in `params`, and returns that of its input. X, W, b, dW, db share one dtype."""
    params = {}             # our names for the parameters, and PyTorch's
    needs_dX = True         # False: backward may skip ∂L/∂X, as nobody needs it of a net's first layer
    only_training = False   # True: skipped when the net predicts, as Dropout is (in mlp.py)

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

class Sigmoid(Layer):
    """Squashes to (0, 1)."""
    def forward(self, Z):                               # tanh saturates where exp would overflow
        self.A = 0.5 * (1 + np.tanh(0.5 * Z))           # (18)  A = 1 / (1 + e⁻ᶻ) = ½ (1 + tanh ½Z)
        return self.A

    def backward(self, dA):
        return dA * self.A * (1 - self.A)               # (19)  ∂L/∂Z = ∂L/∂A · A · (1 − A)

def places(side, kernel, stride, padding=0):
    """How many windows of size `kernel`, `stride` apart, fit along a side; UserError if none."""
    if min(kernel, stride, padding + 1) < 1 or side + 2 * padding < kernel:
        raise UserError(f"kernel {kernel}, stride {stride} do not fit {side} + 2 x {padding}: a smaller one?")
    return (side + 2 * padding - kernel) // stride + 1  # (47)  H' = ⌊(H + 2p − kH) / s⌋ + 1

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

class ConvTranspose2d(Conv2d):
    """Conv2d(K, C, ...) transposed: X (C, H', W', N) to Z (K, H, W, N) with W (C, K, kH, kW), b (K, 1). Each
    X[c,h,w] scales the kernel W[c] and adds it to Z at y = s h + i − p, x = s w + j − p. Each Σ: all
    indices missing on the left; in (98), (99) also n."""
    def __init__(self, C, K, kernel, rng, stride=1, padding=0):
        super().__init__(K, C, kernel, rng, stride, padding)            # Var W = 2 / (K kH kW)
        self.W *= stride * math.sqrt(K / C)             # (95)  Var W = 2 s² / (C kH kW)
        self.b, self.db = np.zeros((2, K, 1), np.float32)

    def forward(self, X):
        self.X, s, p, sides = X, self.stride, self.padding, zip(X.shape[1:3], self.kernel)
        size = [s * (h - 1) + k - 2 * p for h, k in sides]  # (96)  H = s (H' − 1) + kH − 2p
        Z = spread(X, self.W, s, p, size)
        return Z + self.b[:, :, None, None]             # (97)  Z[k,y,x] = Σ W[c,k,i,j] X[c,h,w] + bₖ

    def backward(self, dZ):
        # The roles are swapped: dZ is the image, and X stands in for the output gradient of a convolution.
        windows, N = unroll(dZ, self.kernel, self.stride, self.padding), dZ.shape[-1]
        kernel_gradient(windows, self.X, self.dW)       # (98)  ∂L/∂W[c,k,i,j] = Σ X[c,h,w] ∂L/∂Z[k,y,x]
        dZ.sum(axis=(1, 2, 3), out=self.db[:, 0])       # (99)  ∂L/∂bₖ = Σ ∂L/∂Z[k,y,x]
        return correlate(windows, self.W, N)            # (100)  ∂L/∂X[c,h,w] = Σ W[c,k,i,j] ∂L/∂Z[k,y,x]

class Flatten(Layer):
    """Volumes (C, H, W, N) as columns (C H W, N)."""
    def forward(self, X):
        self.shape = X.shape[:-1]
        return X.reshape(-1, X.shape[-1])               # (54)  d = (c H + h) W + w,  of X (C, H, W, N)

    def backward(self, dA):
        return dA.reshape(*self.shape, -1)

class Unflatten(Flatten):
    """Columns (C H W, N) as volumes (C, H, W, N): the reverse of Flatten."""
    def __init__(self, *shape):
        self.shape = shape

    forward, backward = Flatten.backward, Flatten.forward

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

class Autoencoder(Sequential):
    """Layers that encode, then layers that decode. `encoder` and `decoder` are nets that share these layers;
    their theta and weights are still those of the whole net."""
    def __init__(self, encoder, decoder):
        super().__init__(*encoder, *decoder)
        self.encoder, self.decoder = copy(self), copy(self)
        self.encoder.layers, self.decoder.layers = encoder, decoder

# --- Losses and optimizers, as in mlp.py ----------------------------------------------------------------

class MSELoss:
    """Mean squared error of Z against targets Y, both (K, N), or any other shape."""
    def forward(self, Z, Y):
        self.error = Z - Y
        return float(np.mean(self.error ** 2))          # (31)  L = 1/KN Σ (Z − Y)²

    def backward(self):
        return 2 / self.error.size * self.error         # (32)  ∂L/∂Z = 2/KN (Z − Y)

class BCELoss:
    """Log loss of the probabilities sigmoid(Z) against targets Y in [0, 1], both (K, N); safe for any Z."""
    def forward(self, Z, Y):
        self.Z, self.Y = Z, np.asarray(Y, Z.dtype)
        losses = np.logaddexp(0, Z) - self.Y * Z        # logaddexp(0, Z) = ln(1 + eᶻ), for any Z
        return float(losses.mean())                     # (33)  L = 1/KN Σ (ln(1 + eᶻ) − Y · Z)

    def backward(self):
        P = Sigmoid().forward(self.Z)
        return (P - self.Y) / P.size                    # (34)  ∂L/∂Z = 1/KN (σ(Z) − Y)

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

LOSSES = {"mse": MSELoss, "bce": BCELoss}
OPTIMIZERS = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}
CHANNELS = 16, 32                                       # each convolution halves the sides: 28, 14, 7

def build(data, args, rng, codes=None):
    """The net for pictures (n, D), or (n, 1, H, W) for convolutions, H and W multiples of 4; its loss and
    its optimizer."""
    shape, encoder, decoder = data.X_train.shape[1:], [], []
    if args.conv:
        for K in CHANNELS:                              # one more on the way down, and one on the way up
            encoder += [Conv2d(shape[0], K, 4, rng, 2, 1), ReLU()]
            decoder = [ReLU(), ConvTranspose2d(K, shape[0], 4, rng, 2, 1), *decoder]
            shape = K, shape[1] // 2, shape[2] // 2
        encoder, decoder = [*encoder, Flatten()], [Unflatten(*shape), *decoder]
    D = math.prod(shape)
    for width in *args.hidden, codes or args.latent[-1]:
        encoder += [Linear(D, width, rng), ReLU()]
        decoder = [ReLU(), Linear(width, D, rng), *decoder]
        D = width
    if args.conv or args.hidden or args.loss == "bce":
        b = decoder[-1].b                               # starts at the mean picture: b = ln(x̄ / (1 − x̄))
        pixels = data.X_train.reshape(len(data.X_train), len(b), -1)    # each bias serves one pixel, or all
        mean = np.clip(pixels.mean(axis=(0, 2)) / 255, 0.01, 0.99)
        b[:, 0] = np.log(mean / (1 - mean))
        decoder += [Sigmoid()]                          # without it: a linear autoencoder
    net = Autoencoder(encoder[:-1], decoder[1:])        # no ReLU at the codes
    net.layers[0].needs_dX = False
    if args.loss == "bce":                              # BCELoss includes the sigmoid: net gives logits now,
        net.layers = net.layers[:-1]                    # net.decoder still gives pictures
    return net, LOSSES[args.loss](), OPTIMIZERS[args.optimizer](net, args.lr, args.weight_decay)

def corrupt(X, noise, mask, rng):
    """What a denoising autoencoder gets to see of X (Vincent et al. 2008)."""
    if noise:                                           # (101)  X̃ = X + σ E,  E ~ N(0, 1)
        X = X + np.float32(noise) * rng.standard_normal(X.shape, np.float32)
    if mask:                                            # (102)  X̃ = X · [U ≥ p],  U ~ U(0, 1)
        X = X * (rng.random(X.shape, np.float32) >= mask)
    return X

def evaluate(net, X, noise=0.0, mask=0.0):
    """For uint8 pictures X (n, ...): what the net sees of them, its reconstructions, both as rows (n, D), the
    codes (n, k) in between, and the mean squared error per pixel."""
    n, X = len(X), X * np.float32(1 / 255)
    seen = corrupt(X, noise, mask, np.random.default_rng(0))    # the same corruption each time
    codes = predict(net.encoder, seen).T
    made = predict(net.decoder, codes).reshape(-1, n).T
    return seen.reshape(n, -1), made, codes, float(np.mean((made - X.reshape(n, -1)) ** 2))

def train(net, loss, optimizer, data, epochs, batch_size, rng, noise=0.0, mask=0.0):
    """Fit the net: a generator that yields, after each epoch, train loss, averaged over its minibatches, and
    test error. UserError if the loss is not finite."""
    step, steps = 0, epochs * math.ceil(len(data.X_train) / batch_size)
    for epoch in range(1, epochs + 1):
        mean = 0
        for X, _ in minibatches(data.X_train, data.y_train, batch_size, rng, f"epoch {epoch}/{epochs}"):
            Z = net.forward(corrupt(X, noise, mask, rng), training=True)
            L = finite(loss.forward(Z, X), step + 1, optimizer.lr)
            net.backward(loss.backward())
            optimizer.step(1 - step / steps)            # (46)  η = η₀ (1 − t / T)
            step += 1
            mean += L * X.shape[-1] / len(data.X_train)
        yield mean, finite(evaluate(net, data.X_test, noise, mask)[-1], step, optimizer.lr)

# --- The baseline to beat, and what codes are good for --------------------------------------------------

def pca(X, k):
    """The mean (D,) of X (n, D), and the k directions V (k, D) in which it varies most (Pearson 1901)."""
    mean = X.mean(axis=0)
    X = X - mean
    if len(X) < X.shape[1]:                             # few large pictures: X = U S V, so C = Vᵀ S² V / n
        return mean, np.linalg.svd(X, full_matrices=False)[2][:k]
    v = np.linalg.eigh(X.T @ X / len(X))[1]             # (103)  C = 1/n Σ (x − x̄)(x − x̄)ᵀ,  C vᵢ = λᵢ vᵢ
    return mean, v.T[::-1][:k]                          # the largest λᵢ first

def project(X, mean, V):
    """What PCA reconstructs of X (n, D)."""
    return mean + (X - mean) @ V.T @ V                  # (104)  x̂ = x̄ + Vᵀ V (x − x̄)

def regression(X, y, X_test, y_test, K, rng):
    """The test accuracy of softmax regression from features X (n, D) to classes y (n,)."""
    mean, deviation = X.mean(axis=0), X.std() or 1
    X, X_test = (X - mean) / deviation, (X_test - mean) / deviation
    net, loss = Sequential(Linear(X.shape[1], K, rng)), CrossEntropyLoss()
    net.layers[0].needs_dX, optimizer = False, Adam(net, 0.01, 1 / len(X))      # few examples: keep W small
    epochs = 5 + 30_000 // max(len(X), 100)
    for epoch in range(epochs):
        for inputs, targets in minibatches(X, y, 256, rng):
            loss.forward(net.forward(inputs), targets)
            net.backward(loss.backward())
            optimizer.step(1 - epoch / epochs)
    return datasets.accuracy(predict(net, X_test), y_test)

def usefulness(runs, data, sizes, rng):
    """Softmax regression: a generator that yields, for each net of `runs` and each number of labels in
    `sizes`, the number of codes, that of labels, and the test accuracies from pixels, reconstructions, and
    codes (also kept in the run). If not all labels are used, each is the mean of ten draws."""
    y, y_test, K = data.y_train, data.y_test, len(data.classes)
    for (k, run), labels in product(runs.items(), sizes):
        scores, draws = [], [rng.permutation(len(y))[:labels] for _ in range(10 if labels < len(y) else 1)]
        for X, X_test in zip(evaluate(run["net"], data.X_train)[:3], evaluate(run["net"], data.X_test)[:3]):
            scores.append(np.mean([regression(X[rows], y[rows], X_test, y_test, K, rng) for rows in draws]))
        run[labels] = scores
        yield k, labels, *scores

# --- t-SNE: a flat map of points in many dimensions, where neighbours stay neighbours -------------------

def check_perplexity(perplexity, n):
    """UserError unless each of n points can have so many neighbours."""
    if not 1 <= perplexity < n - 1:
        raise UserError(f"perplexity {perplexity:g} does not fit {n} points: it must be >= 1 and < {n - 1}")

def neighbours(d, perplexity):
    """How likely each point is to pick each other one as neighbour, p (n, n - 1), from squared distances d
    (n, n - 1). Bisection finds the β of each row that makes it as uncertain as among `perplexity` equals."""
    d = d - d.min(axis=1, keepdims=True)                # cancels in (105), (106); else S of outliers gets 0
    d /= d.mean(axis=1, keepdims=True) + 1e-300         # so one range of β suits all, far outliers included
    low, high = 1e-12, 1e24
    for _ in range(45):                                 # then ln β is known to 12 digits
        beta = np.sqrt(low * high)
        p = np.exp(-beta * d)
        S = p.sum(axis=1, keepdims=True)
        p /= S                                          # (105)  pⱼ|ᵢ = exp(−βᵢ dᵢⱼ) / Σₖ exp(−βᵢ dᵢₖ)
        H = np.log(S) + beta * (p * d).sum(axis=1, keepdims=True)  # (106)  Hᵢ = ln Sᵢ + βᵢ Σⱼ pⱼ|ᵢ dᵢⱼ
        wide = H > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
    return p

def distances(X):
    """The squared distance of each row of X (n, D) from each other: (n, n)."""
    squares = (X * X).sum(axis=1)
    return squares[:, None] + squares - 2 * X @ X.T     # (107)  dᵢⱼ = |xᵢ − xⱼ|² = |xᵢ|² + |xⱼ|² − 2 xᵢ·xⱼ

def affinities(X, perplexity):
    """How strongly each pair of the points X (n, D) belongs together: P (n, n), symmetric, with sum 1, and
    always above 0, for the logarithm in (111)."""
    n = len(X)
    check_perplexity(perplexity, n)
    X = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)     # rounds least near 0
    others, P = ~np.eye(n, dtype=bool), np.zeros((n, n))
    P[others] = neighbours(distances(X)[others].reshape(n, n - 1), perplexity).ravel()
    return np.maximum((P + P.T) / (2 * n), 1e-30)       # (108)  pᵢⱼ = (pⱼ|ᵢ + pᵢ|ⱼ) / 2n

def similarities(Y):
    """How near each two points of the map Y (n, 2) are: W (n, n), and Q (n, n), the same with sum 1."""
    W = 1 / (1 + distances(Y))                          # (109)  wᵢⱼ = 1 / (1 + |yᵢ − yⱼ|²),  wᵢᵢ = 0
    np.fill_diagonal(W, 0)
    return W, W / W.sum()                               # (110)  qᵢⱼ = wᵢⱼ / Z,  Z = Σₖₗ wₖₗ

def divergence(P, Y):
    """How badly the map Y (n, 2) represents the affinities P (n, n)."""
    Q = np.maximum(similarities(Y)[1], 1e-30)           # qᵢᵢ = 0, and has no logarithm
    return float(np.sum(P * np.log(P / Q)))             # (111)  L = Σ pᵢⱼ ln(pᵢⱼ / qᵢⱼ)

def map_gradient(P, Y):
    """∂L/∂Y (n, 2) of L = divergence(P, Y), for symmetric P with sum 1. With 12 P it is no gradient: only the
    attraction gets 12 times as strong."""
    W, Q = similarities(Y)
    F = (P - Q) * W                                     # W is also −∂ln w/∂D
    return 4 * (F.sum(axis=1, keepdims=True) * Y - F @ Y)  # (112)  ∂L/∂yᵢ = 4 Σⱼ (pᵢⱼ − qᵢⱼ) wᵢⱼ (yᵢ − yⱼ)

def tsne(X, perplexity=30, iterations=1000):
    """A map Y (n, 2) of the points X (n, D), D > 1, and its KL divergence (van der Maaten & Hinton 2008).
    Starts from the PCA of X; exaggerates attraction in the first quarter of iterations. Deterministic."""
    P, n, (mean, V) = affinities(X, perplexity).astype(np.float32), len(X), pca(X, 2)
    Y = (X - mean) @ V.T
    Y = (Y * (1e-4 / (Y[:, 0].std() + 1e-30))).astype(np.float32)
    lr, early = max(n / (4 * 12), min(n / 4, 50)), iterations // 4
    for step in datasets.progress(range(iterations), "t-SNE"):
        if step in (0, early):                          # start afresh
            m, gains = np.zeros_like(Y), np.ones_like(Y)
        attraction, mu = (12 * P, 0.5) if step < early else (P, 0.8)
        dY = map_gradient(attraction, Y)
        gains = np.where(m * dY > 0, gains + 0.2, np.maximum(0.8 * gains, 0.01))    # γ: up while signs agree
        m = mu * m + gains * dY                         # (113)  m ← μ m + γ · ∂L/∂Y
        Y -= lr * m                                     # (114)  Y ← Y − η m
        Y -= Y.mean(axis=0)                             # leaves L as it is; numbers near 0 are rounded least
    return Y, divergence(P, Y)

# --- Figure ---------------------------------------------------------------------------------------------

HUES = np.array([[63, 144, 218], [255, 169, 14], [189, 31, 1], [148, 164, 162], [131, 45, 182],
                 [169, 107, 89], [231, 99, 0], [185, 172, 112], [113, 117, 129], [146, 218, 221]]) / 255

def map_of(pictures, Y, hues):
    """A sheet with pictures (n, H, W), each at its place Y (n, 2) unless another is in the way."""
    H, W = pictures.shape[1:]
    sheet, extent = np.ones((33 * H, 33 * W, 3)), np.ptp(Y, axis=0) + 1e-30
    corners = (Y - Y.min(axis=0)) / extent * (32 * H, 32 * W)
    for (y, x), picture, hue in zip(corners.astype(int), pictures, hues):
        if (sheet[y:y + H, x:x + W] == 1).all():
            sheet[y:y + H, x:x + W] = 1 - (1 - hue) * picture[..., None]
    return sheet

def plot(runs, data, args):
    """Pictures and their reconstructions, the error, and what the codes of the last net mean."""
    (H, W), y, (k, run) = data.X_test.shape[1:], data.y_test, list(runs.items())[-1]
    pictures, codes, hues, history = data.X_test / 255, run["codes"], HUES[y % len(HUES)], run["history"]
    fig, ax = datasets.figure("RRRe;RRRe;LLMM;LLMM;LLMM;LLMM;LLMM", 13, 9.5)
    rows = {"original": pictures, **({"input": run["seen"]} if args.noise or args.mask else {}),
            **{f"{size} codes": each["made"] for size, each in runs.items()}, f"PCA, {k}": run["projected"]}
    ink = pictures if np.median(pictures) < 0.25 else 1 - pictures      # what is dark in photographs
    sheet = np.concatenate([part[:14].reshape(-1, H, W) for part in rows.values()])
    datasets.plot_sheet(ax["R"], sheet, columns=min(14, len(y)))
    ax["R"].set_yticks((np.arange(len(rows)) + 0.5) * (H + 1), list(rows))

    if len(runs) > 1:
        x = list(map(str, runs))
        ax["e"].set_xlabel("codes")
        curves = {name: [run[name] for run in runs.values()] for name in ("test", "PCA")}
    else:
        x = range(1, len(history) + 1)
        curves = dict(zip(("train", "test"), zip(*history)), PCA=[run["PCA"]] * len(history))
        datasets.epochs_axis(ax["e"], len(history))
    for name, line in ("train", "C0-"), ("test", "C1-"), ("PCA", "C2--"):
        if name in curves and (name != "train" or args.loss == "mse"):      # bce is no squared error
            ax["e"].plot(x, curves[name], datasets.dots(x) + line, label=name)
    ax["e"].set(title="error per pixel", ylim=0)
    ax["e"].legend()

    def decoded(codes):
        return predict(run["net"].decoder, codes).reshape(H, W, -1).transpose(2, 0, 1)

    if k == 2:
        ranks = codes.argsort(axis=0).argsort(axis=0)   # they spread the pictures evenly
        ax["L"].imshow(map_of(ink, ranks, hues))
        ax["L"].set_title("test pictures by the ranks of their codes: code 1 down, code 2 across")
        sides = np.quantile(codes, (np.arange(20) + 0.5) / 20, axis=0).T
        grid = np.array(list(product(*sides)))
        datasets.plot_sheet(ax["M"], decoded(grid), "what the decoder makes of the same plane", columns=20)
    else:
        groups = [codes[y == i] for i in np.unique(y)[:10]]             # of each class, the most typical:
        typical = [group[np.linalg.norm(group - group.mean(axis=0), axis=1).argmin()] for group in groups]
        walks = np.linspace(typical, np.roll(typical, -1, axis=0), 11, axis=1).reshape(-1, k)
        datasets.plot_sheet(ax["L"], decoded(walks), "walks in a straight line from code to code", columns=11)
        if len(codes) > 2:
            Y, KL = tsne(codes[:1000], args.perplexity)
            ax["M"].imshow(map_of(ink, Y, hues))
            ax["M"].set_title(f"t-SNE map of the codes (KL {KL:.2f})")
    for panel in "LM":
        ax[panel].axis("off")
    datasets.finish(fig, args.figure or f"figures/autoencoder-{data.name}.png", not args.no_show)

# --- Command line ---------------------------------------------------------------------------------------

USUAL = dict(hidden=[512, 256], epochs=8, batch_size=128, lr=0.002, weight_decay=0)
CONV = dict(hidden=[], epochs=4, batch_size=32, lr=0.002, weight_decay=0)

def parse_args(argv=None):
    parser = datasets.parser(__doc__, "mnist", "digits, fashion, kmnist, cats-dogs", OPTIMIZERS,
                             dense=USUAL, conv=CONV)
    option, number = parser.add_argument, datasets.number
    option("--latent", type=number(int, 2), nargs="+", default=[32], metavar="K",
           help="codes per picture: few blur it; several are compared (--save: the last)")
    option("--hidden", type=number(int, 1), nargs="*", metavar="UNITS",
           help="width of each layer to the codes, and back; none: like PCA (with mse, without --conv)")
    option("--conv", action="store_true", help="start with convolutions: slower, with far fewer weights")
    option("--loss", choices=LOSSES, default="mse", help="squared error, or log loss of every pixel")
    option("--noise", type=number(float, 0, 1000), default=0, metavar="S", help="noise to add and remove")
    option("--mask", type=number(float, 0, 1), default=0, metavar="P", help="share of pixels to fill in")
    option("--classify", action="store_true", help="softmax regression on pixels, reconstructions, codes")
    option("--labels", type=number(int, 1), metavar="N", help="the same with only N labels, in ten draws")
    option("--perplexity", type=number(float, 1), metavar="P", help="neighbours per point in t-SNE (30)")
    args = parser.parse_args(argv)
    if args.load and len(set(args.latent)) > 1:
        parser.error("several --latent train several nets, but the weights of --load fit only one")
    return args

def main(argv=None):
    """Run the script with the command line argv; return what came out."""
    args = parse_args(argv)
    rng = np.random.default_rng(args.seed)
    pictures = datasets.load(args.dataset, args.seed)
    data = datasets.as_pictures(pictures, volumes=args.conv)
    n, D = len(data.X_train), pictures.X_train[0].size
    shown = min(len(data.X_test), 1000)                 # in the map
    usual = {**(CONV if args.conv else USUAL), "perplexity": max(1, min(30, shown / 4))}
    datasets.fill_in(args, usual, n, steps=600 if args.conv else 1000)
    if max(args.latent) > D:
        raise UserError(f"{max(args.latent)} codes are more than the {D} pixels: nothing would be squeezed")
    if shown > 2:                                       # with fewer there is no map
        check_perplexity(args.perplexity, shown)
    X, X_test = (X.reshape(-1, D) * np.float32(1 / 255) for X in (data.X_train, data.X_test))
    runs = {}
    for k in dict.fromkeys(args.latent):
        net, loss, optimizer = build(data, args, rng, k)
        datasets.read_weights(args.load, net.weights)
        datasets.summary(f"autoencoder.py learns {data.name} with {k} codes", data, net)
        if not runs:                                    # once, for all k
            mean, V = pca(X, max(args.latent))
        training = train(net, loss, optimizer, data, args.epochs, args.batch_size, rng, args.noise, args.mask)
        history, _, seconds = watch(training, args.epochs, "train loss {:.4f}   test error {:.4f}")
        seen, made, codes, error = evaluate(net, data.X_test, args.noise, args.mask)
        projected = project(seen, mean, V[:k])
        error_pca = float(np.mean((projected - X_test) ** 2))
        print(f"test error {error:.4f} per pixel (PCA: {error_pca:.4f}) after {seconds:.0f} s", flush=True)
        runs[k] = dict(net=net, history=history, seen=seen, made=made, projected=projected, codes=codes,
                       test=error, PCA=error_pca, seconds=seconds)
        if len(history) < args.epochs:                  # interrupted
            break
    datasets.write_weights(args.save, net.weights)
    if len(runs) > 1:
        print("codes   test error      PCA")
        for k, run in runs.items():
            print(f"{k:5}   {run['test']:10.4f}   {run['PCA']:6.4f}")
    sizes = dict.fromkeys([n] * args.classify + ([min(args.labels, n)] if args.labels else []))
    words = "{:3} codes, {:6,} labels   from pixels {:.2%}, reconstructions {:.2%}, codes {:.2%}"
    watch(usefulness(runs, data, sizes, rng), len(runs) * len(sizes), words, unit="regression")
    plot(runs, pictures, args)
    return {**list(runs.values())[-1], "runs": runs}

if __name__ == "__main__":
    datasets.run(main)
