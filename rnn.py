"""Recurrent networks: RNN, LSTM and GRU, trained through time on text, time series, and a memory test.

A recurrent net reads a sequence step by step, and carries a state, its memory, from each step to the next.
On the way back through the unrolled loop, the gradient is multiplied by the same matrix at each step, so it
vanishes or explodes. The gates of LSTM and GRU give it a way around the matrix. The README derives the
equations in the margin. Code shared with other scripts is copied verbatim: some may go unused here.

    python rnn.py                                      learn to write Shakespeare, character by character
    python rnn.py --compare                            the three cells, trained alike
    python rnn.py --dataset airline                    forecast a time series
    python rnn.py --dataset adding --cell rnn          a memory test that the plain RNN fails
    python rnn.py --load w.npz --epochs 0 --sample 500 --temperature 0.8 --prime "ROMEO:"

The first command ends with

    test 1.65 nats per character (2.39 bits, perplexity 5.2) after 44 s
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
import os

if __name__ == "__main__":                              # for BLAS: Halves has two threads of its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import datasets
from datasets import Adding, Halves, finite, one_vector, progress, watch

# --- Cells: a sequence is (T, D, N), N examples of T steps; h and c are (H, N); dV means ∂L/∂V ----------

class Layer:
    """forward saves what backward needs. backward takes the gradient of its output, fills in place the `dW`
    of each parameter `W` in `params`, and returns that of its input. X, W, b, dW, db share one dtype."""
    params = {}             # our names for the parameters, and PyTorch's
    needs_dX = True         # False: backward may skip ∂L/∂X, as nobody needs it of a net's first layer
    only_training = False   # True: skipped when the net predicts, as Dropout is (in mlp.py)

def flat(X):
    """All steps side by side, (T, D, N) to (D, TN): a sum over steps and examples is one matrix product."""
    return X.transpose(1, 0, 2).reshape(X.shape[1], -1)

def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))

class Cell(Layer):
    """A layer with a state. forward(X, state) takes a sequence X (T, D, N) and the initial state, a tuple of
    arrays (H, N), or 0; it returns h at all steps (T, H, N) and the final state. backward(dH) takes ∂L/∂h at
    all steps from above, adds in place what comes back from later steps, and returns ∂L/∂X and ∂L/∂state.
    Each kind has G blocks, its gates and its candidate, and two methods. `step` computes h from A and U
    (G, H, N); it may turn A into the gates, and keep one more array (H, N) in kept[t]. `step_back` takes the
    gates and ∂L/∂h, fills dA in place (and dU, unless `only_sum`), and returns what reaches the previous h
    other than through U. With a c (`states` = 2), step also writes cₜ into C[t + 1], and step_back replaces
    self.dc, what step t + 1 sent back to cₜ, by what step t sends back to cₜ₋₁."""
    params = {"W_ih": "weight_ih_l0", "W_hh": "weight_hh_l0",           # (GH, D), (GH, H)
              "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}               # (GH, 1), (GH, 1)
    states = 1                                          # arrays in the state
    only_sum = True                                     # a step uses only the sum A + U, so dU is dA

    def __init__(self, D, H, rng):
        self.size, small = H, math.sqrt(1 / (3 * H))    # (57)  Var W_ih = 1,  Var W_hh, b = 1 / 3H
        for name, columns, deviation in zip(self.params, (D, H, 1, 1), (1, small, small, small)):
            W = deviation * rng.standard_normal((self.G * H, columns), np.float32)
            setattr(self, name, W)
            setattr(self, "d" + name, np.zeros_like(W))

    def forward(self, X, state):
        (T, _, N), self.X = X.shape, X
        A = self.W_ih @ X
        A += self.b_ih                                  # (58)  A = W_ih X + b_ih            (T, GH, N)
        self.gates = A.reshape(T, self.G, self.size, N)
        history = np.empty((self.states, T + 1, self.size, N), A.dtype)
        history[:, 0] = state
        self.H, self.C = history[0], history[-1]        # H[t] is hₜ₋₁, H[t + 1] is hₜ; C: the same of c
        self.kept = np.empty_like(self.H[1:])
        for t in range(T):
            U = self.W_hh @ self.H[t] + self.b_hh       # (59)  Uₜ = W_hh hₜ₋₁ + b_hh           (GH, N)
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
        A[:2], o[:] = sigmoid(A[:2]), sigmoid(o)        # (70)  i, f, o = σ(a_i), σ(a_f), σ(a_o)
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
        A[:2] = sigmoid(A[:2] + U[:2])                  # (79)  r, z = σ(A_r + U_r), σ(A_z + U_z)
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

class Recurrent:
    """A cell, and an output for all steps or the last few. All parameters share one vector `theta`, all
    gradients one vector `dtheta`; the arrays of the two layers are views of these."""
    def __init__(self, cell, output):
        self.cell, self.output = cell, output
        self.theta, self.dtheta, self.weights = one_vector({"cell": cell, "output": output})

    def forward(self, X, state=0, last=0):
        """Outputs Z (K, TN) of all T steps, or only the `last` few, side by side; and the final state."""
        self.H, state = self.cell.forward(X, state)     # without the initial state
        return self.output.forward(flat(self.H[-last:])), state         # H[-0:] is all of H

    def backward(self, dZ):
        """Return ∂L/∂X and ∂L/∂state, given ∂L/∂Z of the latest forward. Leaves ∂L/∂h at all steps in dH."""
        _, units, N = self.H.shape
        above = self.output.backward(dZ).reshape(units, -1, N).swapaxes(0, 1)       # undoes flat
        self.dH = np.concatenate([np.zeros_like(self.H[:-len(above)]), above])
        return self.cell.backward(self.dH)

# --- Losses and optimizers as in mlp.py, and clipping ---------------------------------------------------

class MSELoss:
    """Mean squared error of Z against targets Y, both (K, N), or any other shape."""
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

def clip(gradient, limit):
    """Shorten the gradient of all parameters to the norm `limit` if it is longer (Pascanu et al. 2013)."""
    norm = math.sqrt(gradient @ gradient)               # (87)  |g| = √ Σ g²
    if norm > limit:
        gradient *= limit / norm                        # (88)  g ← g · limit / |g|

# --- Training -------------------------------------------------------------------------------------------

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
OPTIMIZERS = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}

def build(cell, task, args):
    """The net for the task, with the same initial weights at every call, and its loss."""
    rng = np.random.default_rng(args.seed)
    net = Recurrent(CELLS[cell](task.D, args.hidden, rng), Linear(args.hidden, task.K, rng))
    net.cell.needs_dX = False
    return net, CrossEntropyLoss() if task.classes else MSELoss()

def evaluate(net, loss, task):
    """The mean loss over the held-out part."""
    total, count, state = 0.0, 0, 0
    for X, Y, last in task.windows(training=False):
        Z, state = net.forward(X, state if task.carry else 0, last)
        total, count = total + loss.forward(Z, Y) * Y.size, count + Y.size
    return total / count

def train(net, loss, optimizer, task, epochs, limit):
    """Fit the net to a task (see datasets.py), with gradients clipped to the norm `limit`: a generator that
    yields, after each epoch, train and test loss. UserError if the loss is not finite."""
    step, steps = 0, epochs * task.steps
    for epoch in range(1, epochs + 1):
        losses, state = [], 0
        for X, Y, last in progress(task.windows(training=True), f"epoch {epoch}/{epochs}", task.steps):
            Z, state = net.forward(X, state if task.carry else 0, last)     # truncated: no gradient goes back
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
        P = np.exp((z - z.max()) / temperature)         # (89)  Pₖ ∝ exp(Zₖ / τ)
        ids = rng.choice(len(P), 1, p=P / P.sum())
        text += task.classes[ids[0]]
    return text

# --- Figure ---------------------------------------------------------------------------------------------

def reach(net, loss, task):
    """|∂L/∂h| at each step of a held-out window, last step first and scaled to 1; L is that step's loss."""
    X, Y, _ = next(iter(task.windows(training=False)))
    loss.forward(net.forward(X, last=1)[0], Y[..., -X.shape[2]:])
    net.backward(loss.backward())
    norms = np.linalg.norm(net.dH, axis=(1, 2))[::-1]
    return norms / norms[0]                             # (90)  |∂L/∂hₜ| / |∂L/∂h_T|

def plot(runs, run, task, args):
    """The loss curves of all runs; how far back the gradient reaches; and what the task shows of one run."""
    wide = hasattr(task, "show")
    fig, ax = datasets.figure("CG;BB" if wide else "CG", 13, 8 if wide else 4.5)
    for k, cell in enumerate(CELLS):
        name, (fresh, loss) = cell.upper(), build(cell, task, args)
        ax["G"].semilogy(reach(fresh, loss, task)[:101], f"C{k}:", label=f"{name}, before training")
        if cell in runs:
            ax["G"].semilogy(reach(runs[cell]["net"], loss, task)[:101], f"C{k}-", label=f"{name}, trained")
            datasets.plot_losses(ax["C"], runs[cell]["history"], f"C{k}", name)
    ax["C"].set(title="loss, nats per character" if task.classes else "loss")
    datasets.epochs_axis(ax["C"], len(run["history"]))
    if isinstance(task, Adding):
        ax["C"].axhline(1 / 6, color="gray", label="without memory")
    ax["G"].set(title="how far back the gradient reaches", xlabel="steps back", ylabel="|dL/dh|, now = 1",
                xmargin=0, ylim=(1e-8, 10))
    ax["C"].legend(fontsize=8)
    ax["G"].legend(fontsize=8)
    if wide:
        task.show(ax["B"], run, build(run["cell"], task, args)[0])
    datasets.finish(fig, args.figure or f"figures/rnn-{task.name}.png", not args.no_show)

# --- Command line ---------------------------------------------------------------------------------------

USUAL = {"text": dict(epochs=5, batch_size=192, lr=2e-2, hidden=128, window=64, weight_decay=0),
         "series": dict(epochs=100, lr=1e-2, hidden=16, weight_decay=0.05),
         "adding": dict(epochs=20, batch_size=64, lr=1e-2, hidden=64, window=100, weight_decay=0)}

def parse_args(argv=None):
    parser = datasets.parser(__doc__, "shakespeare", "python-docs, airline, sine, adding", OPTIMIZERS,
                             own="the path of a text or .csv file", **USUAL)
    option, number = parser.add_argument, datasets.number
    option("--cell", choices=CELLS, default="lstm", help="rnn forgets quickly; lstm and gru have gates")
    option("--compare", action="store_true", help="train all cells alike (--save: that of --cell)")
    option("--hidden", type=number(int, 1), metavar="UNITS", help="size of the state")
    option("--window", type=number(int, 2), metavar="STEPS", help="how far back gradients go (series: all)")
    option("--clip", type=number(float, 1e-9), default=1, metavar="NORM", help="largest norm of the gradient")
    option("--sample", type=number(int, 0), default=200, metavar="N", help="characters to write (of texts)")
    option("--temperature", type=number(float, 1e-9), default=0.8, metavar="T", help="low: dull, high: wild")
    option("--prime", metavar="TEXT", help="what the sample starts with (a line break)")
    option("--column", metavar="NAME", help="column of the .csv (the last one)")
    option("--season", type=number(int, 1), metavar="STEPS", help="steps per season (12; sine: 20)")
    args = parser.parse_args(argv)
    if args.compare and args.load:
        parser.error("--compare trains three cells, but the weights of --load fit only one")
    return args

def main(argv=None):
    """Run the script with the command line argv; return what came out."""
    args = parse_args(argv)
    rng = np.random.default_rng(args.seed)
    task = datasets.choose_task(args, USUAL, rng)

    def say(words):
        print(words)
        if task.classes:                                # a text: watch it learn to spell
            written = sample(net, task, 80, args.temperature, args.prime, rng)
            print("    " + written[len(args.prime):].replace("\n", " / "))

    runs = {}
    for cell in CELLS if args.compare else [args.cell]:
        net, loss = build(cell, task, args)
        if not task.classes:
            net.output.W[:] = 0                         # numbers: the first answer is 0
        print(f"rnn.py learns {task.name} with {cell.upper()}: {task.amount}, {net.theta.size:,} parameters")
        datasets.table("output per step", [(net.cell, args.hidden), (net.output, task.K)])
        datasets.read_weights(args.load, net.weights)
        optimizer = OPTIMIZERS[args.optimizer](net, args.lr, args.weight_decay)
        halves = Halves(net, build(cell, task, args)[0])            # trains net
        training = train(halves, loss, optimizer, task, args.epochs, args.clip)
        history, _, seconds = watch(training, args.epochs, "train loss {:.4f}   test loss {:.4f}", say)
        L = evaluate(net, loss, task)
        words, more = task.report(net, L)
        print(f"test {words} after {seconds:.0f} s")
        runs[cell] = dict(cell=cell, net=net, task=task, history=history, loss=L, seconds=seconds, **more)
        if len(history) < args.epochs:                  # interrupted
            break
    if args.compare:
        print("cell   parameters   seconds   test loss")
        for cell, run in runs.items():
            print(f"{cell.upper():7}{run['net'].theta.size:10,}{run['seconds']:10.1f}{run['loss']:12.4f}")
    run = runs.get(args.cell, runs[cell])
    datasets.write_weights(args.save, run["net"].weights)
    if task.classes and args.sample:
        run["sample"] = sample(run["net"], task, args.sample, args.temperature, args.prime,
                               np.random.default_rng(args.seed))
        print(f"--- a sample at temperature {args.temperature:g}\n{run['sample']}\n---")
    plot(runs, run, task, args)
    return {**run, "runs": runs}

if __name__ == "__main__":
    datasets.run(main)
