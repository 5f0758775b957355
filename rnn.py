"""Recurrent networks: RNN, LSTM and GRU, trained through time on text, time series, and a memory test.

A recurrent net reads a sequence step by step, and carries a state, its memory, from each step to the next.
Backpropagation through time is backpropagation through the unrolled loop: the gradient travels back step by
step and is multiplied by the same matrix each time, so it vanishes or explodes. The gates of LSTM and GRU
give it a way around the matrix. The README derives the equations in the right margin, under the same
numbers. Code shared with other scripts is copied verbatim, so some of it may go unused here.

    python rnn.py                                      learn to write Shakespeare, character by character
    python rnn.py --compare                            the three cells on the same budget
    python rnn.py --dataset airline                    forecast a time series
    python rnn.py --dataset adding --cell rnn          a memory test that the plain RNN fails
    python rnn.py --load w.npz --epochs 0 --sample 500 --temperature 0.8 --prime "ROMEO:"

The first command ends with

    test 1.62 nats per character (2.34 bits, perplexity 5.1) after 42 s
    --- a sample at temperature 0.8
    ...
    ---
    figure: figures/rnn-shakespeare.png

Follows Hochreiter & Schmidhuber, "Long short-term memory" (1997), and Cho et al., "Learning phrase
representations using RNN encoder-decoder for statistical machine translation" (2014).
"""
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "matplotlib"]
# ///
import math

import numpy as np

import datasets
from datasets import UserError, finite, one_vector, progress, watch

# --- Cells: a sequence is (T, D, N), N examples of T steps; h and c are (H, N); dV means ∂L/∂V ----------

class Layer:
    """forward saves what backward needs. backward takes the gradient of its output, fills the array `dW` of
    each parameter `W` in `params`, and returns the gradient of its input. X, W, b, dW, db share one dtype."""
    params = {}             # our names for the parameters, and PyTorch's
    needs_dX = True         # False: backward may skip ∂L/∂X, as nobody needs it of a net's first layer
    only_training = False   # True: skipped when the net predicts, as Dropout is (in mlp.py)

def flat(X):
    """All steps side by side, (T, D, N) to (D, TN): a sum over steps and examples is one matrix product."""
    return X.transpose(1, 0, 2).reshape(X.shape[1], -1)

def sigmoid_in_place(a):
    """σ(a) = ½ (1 + tanh ½a)."""
    a *= 0.5
    np.tanh(a, out=a)
    a *= 0.5
    a += 0.5

class Cell(Layer):
    """A layer with a state. forward(X, state) takes a sequence X (T, D, N) and the initial state, a tuple of
    arrays (H, N), or 0; it returns h at all steps (T, H, N) and the final state. backward(dH) takes ∂L/∂h at
    all steps from above, adds in place what comes back from later steps, and returns ∂L/∂X and ∂L/∂state.
    Each kind of cell has G gates and two methods. `step` computes h from A and U (G, H, N); it may overwrite
    A with the gates, and keep one more array in kept[t]. `step_back` takes the gates and ∂L/∂h, fills dA (and
    dU, unless `only_sum`), and returns what reaches the previous h other than through U. A cell with two
    states finds cₜ₋₁ in C[t], writes cₜ into C[t + 1], and takes dc back from ∂L/∂cₜ to ∂L/∂cₜ₋₁."""
    params = {"W_ih": "weight_ih_l0", "W_hh": "weight_hh_l0",           # (GH, D), (GH, H)
              "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}               # (GH, 1), (GH, 1)
    states = 1                                          # arrays in the state
    only_sum = True                                     # a step uses only the sum A + U, so dU is dA

    def __init__(self, D, H, rng):
        self.size = H
        for name, columns in zip(self.params, (D, H, 1, 1)):
            W = rng.uniform(-1, 1, (self.G * H, columns)) / math.sqrt(H)  # (57)  W, b ~ U(−1, 1) / √H
            setattr(self, name, W.astype(np.float32))
            setattr(self, "d" + name, np.zeros_like(W, np.float32))

    def forward(self, X, state):
        (T, _, N), self.X = X.shape, X
        b_ih, b_hh = (np.repeat(b, N, axis=1) for b in (self.b_ih, self.b_hh))  # faster than broadcasting
        A = self.W_ih @ X
        A += b_ih                                       # (58)  A = W_ih X + b_ih            (T, GH, N)
        self.gates = A.reshape(T, self.G, self.size, N)
        history = np.empty((self.states, T + 1, self.size, N), A.dtype)
        history[:, 0] = state
        self.H, self.C = history[0], history[-1]        # H[t] is hₜ₋₁, H[t + 1] is hₜ; in the LSTM, C is c
        self.kept = np.empty_like(self.H[1:])
        for t in range(T):
            U = self.W_hh @ self.H[t] + b_hh            # (59)  Uₜ = W_hh hₜ₋₁ + b_hh           (GH, N)
            self.H[t + 1] = self.step(t, self.gates[t], U.reshape(self.G, self.size, N))
        return self.H[1:], tuple(history[:, -1])

    def backward(self, dH):
        (T, _, N), back, self.dc = dH.shape, 0, 0       # nothing comes back to the last step
        dA = np.empty_like(self.gates)
        dU = dA if self.only_sum else np.empty_like(dA)
        for t in reversed(range(T)):
            dH[t] += back                               # (60)  ∂L/∂hₜ = from above + from step t + 1
            direct = self.step_back(t, self.gates[t], dH[t], dA[t], dU[t])
            back = self.W_hh.T @ dU[t].reshape(-1, N)   # (61)  from step t: W_hhᵀ ∂L/∂Uₜ
            back += direct
        dA, dU = (a.reshape(T, -1, N) for a in (dA, dU))
        dA_, ones = flat(dA), np.ones((T * N, 1), dA.dtype)         # a product sums faster than sum()
        dU_ = dA_ if self.only_sum else flat(dU)
        np.matmul(dA_, flat(self.X).T, out=self.dW_ih)  # (62)  ∂L/∂W_ih = Σₜ ∂L/∂Aₜ Xₜᵀ      (GH, D)
        np.matmul(dU_, flat(self.H[:-1]).T, out=self.dW_hh)  # (63)  ∂L/∂W_hh = Σₜ ∂L/∂Uₜ hₜ₋₁ᵀ  (GH, H)
        np.matmul(dA_, ones, out=self.db_ih)            # (64)  ∂L/∂b_ih = Σₜₙ ∂L/∂Aₜₙ       (GH, 1)
        np.matmul(dU_, ones, out=self.db_hh)            # (65)  ∂L/∂b_hh = Σₜₙ ∂L/∂Uₜₙ       (GH, 1)
        dX = self.W_ih.T @ dA if self.needs_dX else None  # (66)  ∂L/∂X = W_ihᵀ ∂L/∂A        (T, D, N)
        return dX, (back, self.dc)[:self.states]

class RNN(Cell):
    """The plain recurrent cell (Elman 1990)."""
    G = 1

    def step(self, t, A, U):
        return np.tanh(A[0] + U[0])                     # (67)  hₜ = tanh aₜ                 (H, N)

    def step_back(self, t, gates, dh, dA, dU):
        dA[0] = dh * (1 - self.H[t + 1] ** 2)           # (68)  ∂L/∂aₜ = ∂L/∂hₜ · (1 − hₜ²)
        return 0

class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), with forget gates (Gers et al. 2000)."""
    G, states = 4, 2

    def step(self, t, A, U):
        A += U                                          # A becomes the gates, in place
        i, f, g, o = A
        np.tanh(g, out=g)                               # (69)  g = tanh a_g
        sigmoid_in_place(A[:2])
        sigmoid_in_place(o)                             # (70)  i, f, o = σ(a_i), σ(a_f), σ(a_o)
        self.C[t + 1] = f * self.C[t] + i * g           # (71)  cₜ = f cₜ₋₁ + i g             (H, N)
        return o * np.tanh(self.C[t + 1], out=self.kept[t])  # (72)  hₜ = o tanh cₜ               (H, N)

    def step_back(self, t, gates, dh, dA, dU):
        (i, f, g, o), (di, df, dg, do), tanhc = gates, dA, self.kept[t]     # di is ∂L/∂a_i, and so on
        dc = self.dc + dh * o * (1 - tanhc ** 2)        # (73)  ∂L/∂cₜ = later + ∂L/∂hₜ · o (1 − tanh² cₜ)
        do[:] = dh * tanhc * o * (1 - o)                # (74)  ∂L/∂a_o = ∂L/∂hₜ · tanh cₜ · o (1 − o)
        di[:] = dc * g * i * (1 - i)                    # (75)  ∂L/∂a_i = ∂L/∂cₜ · g · i (1 − i)
        df[:] = dc * self.C[t] * f * (1 - f)            # (76)  ∂L/∂a_f = ∂L/∂cₜ · cₜ₋₁ · f (1 − f)
        dg[:] = dc * i * (1 - g * g)                    # (77)  ∂L/∂a_g = ∂L/∂cₜ · i · (1 − g²)
        self.dc = dc * f                                # (78)  from step t: ∂L/∂cₜ · f
        return 0

class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014), the reset gate applied after the product, as in PyTorch."""
    G, only_sum = 3, False

    def step(self, t, A, U):
        (r, z, n), self.kept[t] = A, U[2]               # A becomes the gates, in place
        A[:2] += U[:2]
        sigmoid_in_place(A[:2])                         # (79)  r, z = σ(A_r + U_r), σ(A_z + U_z)
        n += r * U[2]
        np.tanh(n, out=n)                               # (80)  n = tanh(A_n + r U_n)
        return n + z * (self.H[t] - n)                  # (81)  hₜ = (1 − z) n + z hₜ₋₁         (H, N)

    def step_back(self, t, gates, dh, dA, dU):
        (r, z, n), (dr, dz, dn), U_n = gates, dA, self.kept[t]              # dr is ∂L/∂A_r, and so on
        q = dh * (1 - z)
        dn[:] = q * (1 - n * n)                         # (82)  ∂L/∂A_n = ∂L/∂hₜ · (1 − z) · (1 − n²)
        dz[:] = q * (self.H[t] - n) * z                 # (83)  ∂L/∂A_z = ∂L/∂hₜ · (hₜ₋₁ − n) · z (1 − z)
        dU[2] = dn * r                                  # (84)  ∂L/∂U_n = ∂L/∂A_n · r
        dr[:] = dn * U_n * r * (1 - r)                  # (85)  ∂L/∂A_r = ∂L/∂A_n · U_n · r (1 − r)
        dU[:2] = dA[:2]                                 # r and z depend on A + U alone
        return dh * z                                   # (86)  from step t, too: ∂L/∂hₜ · z

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

class Recurrent:
    """A cell, and an output for all steps or the last few. All parameters share one vector `theta`, all
    gradients one vector `dtheta`; the arrays of the two layers are views of these."""
    def __init__(self, cell, output):
        self.cell, self.output = cell, output
        self.theta, self.dtheta, self.weights = one_vector({"cell": cell, "output": output})

    def forward(self, X, state=0, last=0):
        """Outputs Z (K, TN) of all T steps, or only the `last` few, side by side; and the final state."""
        self.H, state = self.cell.forward(X, state)
        return self.output.forward(flat(self.H[-last:])), state         # H[-0:] is all of H

    def backward(self, dZ):
        """Return ∂L/∂X and ∂L/∂state, given ∂L/∂Z of the latest forward. Leaves ∂L/∂h at all steps in dH."""
        _, units, N = self.H.shape
        above = self.output.backward(dZ).reshape(units, -1, N).swapaxes(0, 1)       # undoes flat
        self.dH = np.zeros_like(self.H)
        self.dH[-len(above):] = above
        return self.cell.backward(self.dH)

# --- Losses and optimizers as in mlp.py, and clipping ---------------------------------------------------

class MSELoss:
    """Mean squared error of Z against targets Y, both (K, N)."""
    def forward(self, Z, Y):
        self.error = Z - Y
        return float(np.mean(self.error ** 2))          # (31)  L = 1/KN Σ (Z − Y)²

    def backward(self):
        return 2 / self.error.size * self.error         # (32)  ∂L/∂Z = 2/KN (Z − Y)

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
            if self.weight_decay or self.t % 50 == 0:   # 1e-18: or m, s sink below 1e-38, if g stays 0: slow
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

def clip(gradient, limit):
    """Shorten the gradient of all parameters to the norm `limit` if it is longer (Pascanu et al. 2013)."""
    norm = math.sqrt(gradient @ gradient)               # (87)  |g| = √ Σ g²
    if norm > limit:
        gradient *= limit / norm                        # (88)  g ← g · limit / |g|

# --- Tasks ----------------------------------------------------------------------------------------------

# A task has D inputs, K outputs, a Loss, words to print, and windows(training), which yields inputs
# X (T, D, N), targets Y (..., T'N) for the last T' steps, and T' (0 means T); in training, exactly `steps`
# times, as (46) assumes. `carry`: each window continues where the previous one ended.

class Text:
    """Predict the next character from all before it; the last tenth of the text is held out. N readers start
    at N places in the text and read windows of T characters; the state is carried from window to window."""
    carry, Loss = True, CrossEntropyLoss

    def __init__(self, name, text, N, T):
        self.name, self.N, self.T, self.classes = name, N, T, sorted(set(text))
        self.D = self.K = len(self.classes)
        cut = len(text) * 9 // 10
        self.amount = f"{cut:,} characters to train on, {len(text) - cut:,} to test on"
        self.text, self.steps = (text[:cut], text[cut:]), math.ceil((cut // N - 1) / T)
        if cut < N * (T + 1) or len(text) - cut < T + 1:
            raise UserError(f"{name} has {len(text):,} characters, too few for {N} readers with windows "
                            f"of {T}: try a lower --batch-size or --window")

    def encode(self, text):
        """The text as character numbers (T,)."""
        strange = sorted(set(text) - set(self.classes))
        if strange:
            raise UserError(f"the character {strange[0]!r} never occurs in {self.name}")
        return np.searchsorted(self.classes, list(text))

    def one_hot(self, ids):
        """Character numbers (T, N) as one-hot columns (T, D, N): a single 1, in the row of that number."""
        return np.eye(self.D, dtype=np.float32)[:, ids].transpose(1, 0, 2)

    def windows(self, training):
        ids = self.encode(self.text[0 if training else 1])
        N = min(self.N, len(ids) // (self.T + 1))
        streams = ids[:len(ids) // N * N].reshape(N, -1).T
        for t in range(0, len(streams) - 1, self.T):
            window = streams[t:t + self.T + 1]
            yield self.one_hot(window[:-1]), window[1:].ravel(), 0

    def in_words(self, L):
        return f"{L:.2f} nats per character ({L / math.log(2):.2f} bits, perplexity {np.exp(L):.1f})"

class Adding:
    """Add up two of T numbers in [0, 1]; a second input marks them, one in each half (after Hochreiter &
    Schmidhuber 1997). Without memory, one can hardly do better than always answer 1; the error is then the
    variance of the sum, 1/6."""
    carry, Loss, D, K, name, steps = False, MSELoss, 2, 1, "adding", 100

    def __init__(self, N, T, rng):
        self.N, self.T, self.rng = N, T, rng
        self.amount = f"{self.steps * N:,} sequences to train on, redrawn each epoch, {20 * N:,} to test on"
        self.held_out = [self.draw() for _ in range(20)]

    def draw(self):
        X = np.zeros((self.T, 2, self.N), np.float32)
        X[:, 0] = self.rng.random((self.T, self.N))
        for start, stop in (0, self.T // 2), (self.T // 2, self.T):
            X[self.rng.integers(start, stop, self.N), 1, np.arange(self.N)] = 1
        return X, (X[:, :1] * X[:, 1:]).sum(axis=0), 1

    def windows(self, training):
        return (self.draw() for _ in range(self.steps)) if training else self.held_out

    def in_words(self, L):
        return f"mean squared error {L:.4f} (0.1667 without memory)"

class Series:
    """Forecast a series whose last third is held out. The net sees how the growth over one season (of the
    logarithm, if all values are positive) changes from step to step, and predicts the next change. It gets
    the series and its mirror image: treating up and down alike keeps a free run from drifting."""
    carry, Loss, D, K, steps = False, MSELoss, 1, 1, 1

    def __init__(self, name, values, season):
        self.name, self.values, self.season = name, np.array(values, float), season
        self.cut = len(values) * 2 // 3
        if self.cut < 2 * season + 4:
            raise UserError(f"{name} has {len(values)} values: too few for a --season of {season}")
        positive = self.values.min() > 0
        self.unbend, self.level = (np.exp, np.log(self.values)) if positive else (np.asarray, self.values)
        growth = self.level[season:] - self.level[:-season]  # (89)  gₜ = ln yₜ − ln yₜ₋ₛ
        change = np.diff(growth)                        # (90)  xₜ = gₜ − gₜ₋₁
        self.n_test = len(values) - self.cut
        self.amount = f"{self.cut:,} values to train on, {self.n_test:,} to test on, seasons of {season}"
        self.scale = change[:-self.n_test].std() or 1.0
        self.X = (np.stack([change, -change], axis=-1)[:, None] / self.scale).astype(np.float32)

    def windows(self, training):
        X, last = (self.X[:-self.n_test], 0) if training else (self.X, self.n_test)
        yield X[:-1], flat(X[1:][-last:]), last

    def forecasts(self, net):
        """Held-out values by name: the truth; the net's forecasts, one step ahead and from its own forecasts
        alone; and those of four simple rules, of which `constant growth`, too, sees no held-out ones."""
        def odd(Z):
            z, mirrored = Z.reshape(-1, 2).T
            return (z - mirrored) / 2                   # (91)  ẑ(x) = ½ (z(x) − z(−x))

        s, cut, level = self.season, self.cut, self.level
        seasonal, last = level[cut - s:-s], level[cut - 1:-1]
        rule = seasonal + last - level[cut - s - 1:-s - 1]
        changes = odd(net.forward(self.X[:-1], last=self.n_test)[0])
        own, x, state = [np.array([y, y]) for y in level[:cut]], self.X[:-self.n_test], 0
        while len(own) < len(level):                    # free run of the net, and of the rule, whose ẑ is 0
            Z, state = net.forward(x, state, last=1)
            z = float(odd(Z)[0])
            growth = own[-1] - own[-1 - s] + [self.scale * z, 0]
            own.append(own[-s] + growth)                # (92)  ln ŷₜ = ln yₜ₋ₛ + gₜ₋₁ + ẑ
            x = np.array([[[z, -z]]], np.float32)
        free, constant = np.transpose(own[cut:])
        levels = {"truth": level[cut:], "last value": last, "last season's value": seasonal,
                  "last season times growth": rule, "constant growth": constant, "net, free run": free,
                  "net, one step": rule + self.scale * changes}
        return {name: self.unbend(values) for name, values in levels.items()}

# --- Training -------------------------------------------------------------------------------------------

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
OPTIMIZERS = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}

def build(cell, task, args):
    """The net for the task, with the same initial weights at every call."""
    rng = np.random.default_rng(args.seed)
    return Recurrent(CELLS[cell](task.D, args.hidden, rng), Linear(args.hidden, task.K, rng))

def evaluate(net, loss, task):
    """The mean loss over the held-out part."""
    total, count, state = 0.0, 0, 0
    for X, Y, last in task.windows(training=False):
        Z, state = net.forward(X, state if task.carry else 0, last)
        total, count = total + loss.forward(Z, Y) * Y.size, count + Y.size
    return total / count

def train(net, loss, optimizer, task, epochs, limit):
    """Fit the net, with gradients clipped to the norm `limit`: a generator that yields, after each
    epoch, train and test loss. UserError if the loss is not finite."""
    step, steps, net.cell.needs_dX = 0, epochs * task.steps, False
    for epoch in range(1, epochs + 1):
        losses, state = [], 0                           # truncated: the state goes on, the gradient stops
        for X, Y, last in progress(task.windows(training=True), f"epoch {epoch}/{epochs}", task.steps):
            Z, state = net.forward(X, state if task.carry else 0, last)
            losses.append(finite(loss.forward(Z, Y), step + 1, optimizer.lr))
            net.backward(loss.backward())
            clip(net.dtheta, limit)
            optimizer.step(1 - step / steps)            # (46)  η = η₀ (1 − t / T)
            step += 1
        yield float(np.mean(losses)), finite(evaluate(net, loss, task), step, optimizer.lr)

def sample(net, task, n, temperature, prime, rng):
    """`prime`, and n characters that the net writes after it: the likeliest, if the temperature is low."""
    text, ids, state = prime, task.encode(prime), 0
    for _ in range(n):
        Z, state = net.forward(task.one_hot(ids[:, None]), state, last=1)
        z = Z[:, 0].astype(float)
        P = np.exp((z - z.max()) / temperature)         # (93)  Pₖ ∝ exp(Zₖ / τ)
        ids = rng.choice(len(P), 1, p=P / P.sum())
        text += task.classes[ids[0]]
    return text

# --- Figure ---------------------------------------------------------------------------------------------

def reach(net, task):
    """|∂L/∂h| at each step of a held-out window, last step first and scaled to 1; L is its loss."""
    X, Y, _ = next(iter(task.windows(training=False)))
    loss = task.Loss()
    loss.forward(net.forward(X, last=1)[0], Y[..., -X.shape[2]:])
    net.backward(loss.backward())
    norms = np.linalg.norm(net.dH, axis=(1, 2))[::-1]   # (94)  |∂L/∂hₜ| / |∂L/∂h_T|
    return norms / norms[0]

def telling(net, task):
    """For six things that a reader knows, find the unit that correlates best with each over held-out text.
    Return {name: (the size of this correlation, the unit's state over the last T characters (T,), turned so
    that high means yes)}, and these characters."""
    text, column, letter, known = task.text[1][:5000], 0, 0, []
    net.forward(task.one_hot(task.encode(text)[:, None]))
    h = net.H[:, :, 0]
    for a in text:
        column, letter = (0 if a == "\n" else column + 1), (letter + 1 if a.isalpha() else 0)
        known.append((a.isupper(), column, letter, a in "aeiouAEIOU", a in " \n", a in ".,:;!?"))
    x, y = ((a - a.mean(axis=0)) / (a.std(axis=0) + 1e-9) for a in (np.array(known, float), h))
    r = x.T @ y / len(text)
    names = "capital", "place in line", "place in word", "vowel", "space", "punctuation"
    rows = zip(names, r, np.abs(r).argmax(axis=1))
    # Not what never occurs in the text:
    found = {name: (abs(row[k]), np.sign(row[k]) * h[-90:, k]) for name, row, k in rows if row[k]}
    return found, text[-90:]

def plot(runs, run, task, args):
    """The loss curves of all runs; how far back the gradient reaches; and, for one of them, what some units
    follow, or the forecasts."""
    net, name, wide = run["net"], run["cell"].upper(), isinstance(task, (Text, Series))
    fig, ax = datasets.figure("CG;BB" if wide else "CG", 13, 8 if wide else 4.5)
    for k, cell in enumerate(CELLS):
        label, fresh = cell.upper(), build(cell, task, args)
        ax["G"].semilogy(reach(fresh, task)[:101], f"C{k}:", label=f"{label}, before training")
        if cell in runs:
            ax["G"].semilogy(reach(runs[cell]["net"], task)[:101], f"C{k}-", label=f"{label}, trained")
            for column, line, part in (0, "--", "train"), (1, "-", "test"):
                L = [row[column] for row in runs[cell]["history"]]
                ax["C"].plot(range(1, len(L) + 1), L, f"C{k}{line}", label=f"{label}, {part}",
                             marker="." if len(L) < 30 else "")
    ax["C"].set(title="loss" + (", nats per character" if isinstance(task, Text) else ""))
    datasets.epochs_axis(ax["C"], len(run["history"]))
    if isinstance(task, Adding):
        ax["C"].axhline(1 / 6, color="gray", label="without memory")
    ax["G"].set(title="how far back the gradient reaches", xlabel="steps back", ylabel="|dL/dh|, now = 1",
                xmargin=0, ylim=(1e-8, 10))
    ax["C"].legend(fontsize=8)
    ax["G"].legend(fontsize=8)
    if isinstance(task, Text):
        (before, _), (found, passage) = telling(build(run["cell"], task, args), task), telling(net, task)
        states = [h for _, h in found.values()] or np.zeros((1, len(passage)))
        image = ax["B"].imshow(states, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        ax["B"].set_yticks(range(len(found)), [f"{what}: {before[what][0]:.2f} → {r:.2f}"
                                               for what, (r, _) in found.items()])
        ax["B"].set_xticks(range(len(passage)), list(passage.replace("\n", "¶")), family="monospace")
        ax["B"].set_title(f"the {name} unit that follows each best, over a held-out passage (the best unit's "
                          "correlation before training → now)")
        fig.colorbar(image, ax=ax["B"], label="h, blue for yes", pad=0.01)
    elif isinstance(task, Series):
        shown = np.arange(task.cut - task.season, min(len(task.values), task.cut + 10 * task.season))
        truth = task.values[shown]
        ax["B"].plot(shown, truth, "k-", linewidth=2, label="truth")
        lines, forecasts = ("k:", "C3-.", "C2--", "C2:", "C1-", "C0-"), task.forecasts(net)
        for line, (rule, error) in zip(lines, run["rmse"].items()):
            ax["B"].plot(shown[task.season:], forecasts[rule][:len(shown) - task.season], line,
                         label=f"{rule}: RMSE {error:.4g}")         # of the whole third
        margin = np.ptp(truth) / 2                      # not more for a free run that goes astray
        ax["B"].set(title=f"{task.name}: the held-out third (at most ten seasons), and the {name}",
                    xlabel="step", ylabel="value", ylim=(truth.min() - margin, truth.max() + margin))
        ax["B"].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    datasets.finish(fig, args.figure or f"figures/rnn-{task.name}.png", not args.no_show)

# --- Command line ---------------------------------------------------------------------------------------

def choose_task(args, rng):
    """The task that --dataset names. Settings missing from args get the usual values for that task."""
    name = args.dataset or ""
    if name == "adding":
        datasets.fill_in(args, dict(epochs=20, batch_size=64, lr=1e-2, hidden=64, window=100, weight_decay=0))
        return Adding(args.batch_size, args.window, rng)
    if name in ("airline", "sine") or name.lower().endswith((".csv", ".tsv")):
        datasets.fill_in(args, dict(epochs=100, lr=1e-2, hidden=16, weight_decay=0.05))
        name, values, season = datasets.load_series(name, args.column, args.seed)
        return Series(name, values, args.season or season)
    datasets.fill_in(args, dict(batch_size=32, lr=1e-2, hidden=128, window=64, weight_decay=0))
    name, text = datasets.load_text(args.dataset)
    task = Text(name, text, args.batch_size, args.window)
    args.prime = args.prime or ("\n" if "\n" in task.classes else task.classes[0])
    task.encode(args.prime)                             # complain about unknown characters now, not later
    datasets.fill_in(args, dict(epochs=5), task.steps * args.batch_size, steps=300)
    return task

def report(forecasts):
    """Print and return the RMSE of each forecast; say which simple rules the net does not beat (nan: all)."""
    truth = forecasts.pop("truth")
    rmse = {name: math.sqrt(np.mean((values - truth) ** 2)) for name, values in forecasts.items()}
    for name, value in rmse.items():
        print(f"    {name:24} RMSE {value:.4g}")
    free = "running free (of the rules, only constant growth sees as little)"
    for how, name in ("one step ahead", "net, one step"), (free, "net, free run"):
        better = ", ".join(rule for rule in rmse if "net" not in rule and not rmse[name] < rmse[rule])
        print(f"{how} the net {'does not beat ' + better if better else 'beats every simple rule'}")
    return rmse

def main(argv=None):
    """Run the script with the command line argv; return what came out."""
    parser = datasets.parser(__doc__, "shakespeare", "python-docs, airline, sine, adding", OPTIMIZERS,
                             own="the path of a text or .csv file")
    option, number = parser.add_argument, datasets.number
    option("--cell", choices=CELLS, default="lstm", help="rnn forgets quickly; lstm and gru have gates")
    option("--compare", action="store_true", help="train all three cells on the same budget")
    option("--hidden", type=number(int, 1), metavar="UNITS", help="size of the state")
    option("--window", type=number(int, 2), metavar="STEPS", help="how far back gradients go, at a cost")
    option("--clip", type=number(float, 1e-9), default=1, metavar="NORM", help="largest norm of the gradient")
    option("--sample", type=number(int, 0), default=200, metavar="N", help="characters to write at the end")
    option("--temperature", type=number(float, 1e-9), default=0.8, metavar="T", help="low: dull, high: wild")
    option("--prime", metavar="TEXT", help="what the sample starts with (a line break)")
    option("--column", metavar="NAME", help="column of the .csv (the last one)")
    option("--season", type=number(int, 1), metavar="STEPS", help="steps per season (12; sine: 20)")
    args = parser.parse_args(argv)
    if args.compare and args.load:
        parser.error("--compare trains three cells, but the weights of --load fit only one")

    rng = np.random.default_rng(args.seed)
    task = choose_task(args, rng)
    text = isinstance(task, Text)

    def say(words):
        print(words)
        if text:                                        # watch it learn to spell
            written = sample(net, task, 80, args.temperature, args.prime, rng)[len(args.prime):]
            print("    " + written.replace("\n", " / "))

    runs = {}
    for cell in CELLS if args.compare else [args.cell]:
        net, loss = build(cell, task, args), task.Loss()
        print(f"rnn.py learns {task.name} with {cell.upper()}: {task.amount}, {net.theta.size:,} parameters\n"
              "layer         output per step   parameters")
        for layer, size in (net.cell, args.hidden), (net.output, task.K):
            parameters = sum(getattr(layer, name).size for name in layer.params)
            print(f"{type(layer).__name__:14}{size:15}   {parameters:10,}")
        print(f"{'total':29}   {net.theta.size:10,}", flush=True)
        datasets.read_weights(args.load, net.weights)
        optimizer = OPTIMIZERS[args.optimizer](net, args.lr, args.weight_decay)
        training = train(net, loss, optimizer, task, args.epochs, args.clip)
        history, _, seconds = watch(training, args.epochs, "train loss {:.4f}   test loss {:.4f}", say)
        L = evaluate(net, loss, task)
        runs[cell] = dict(cell=cell, net=net, task=task, history=history, loss=L, seconds=seconds)
        if isinstance(task, Series):
            rmse = runs[cell]["rmse"] = report(task.forecasts(net))
            print(f"test RMSE {rmse['net, one step']:.4g} after {seconds:.0f} s")
        else:
            print(f"test {task.in_words(L)} after {seconds:.0f} s")
        if len(history) < args.epochs:                  # interrupted
            break
    if args.compare:
        print("cell   parameters   seconds   test loss")
        for cell, run in runs.items():
            size = run["net"].theta.size
            print(f"{cell.upper():4}   {size:10,}   {run['seconds']:7.1f}   {run['loss']:9.4f}")
    result = runs.get(args.cell, runs[cell])
    datasets.write_weights(args.save, result["net"].weights)
    if text and args.sample:
        result["sample"] = sample(result["net"], task, args.sample, args.temperature, args.prime,
                                  np.random.default_rng(args.seed))
        print(f"--- a sample at temperature {args.temperature:g}\n{result['sample']}\n---")
    plot(runs, result, task, args)
    return {**result, "runs": runs}

if __name__ == "__main__":
    datasets.run(main)
