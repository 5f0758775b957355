"""Break every line that computes something, one at a time, and see whether a test notices.

    python benchmarks/mutants.py                       every script (some minutes)
    python benchmarks/mutants.py mlp --list            list what would be broken, break nothing

In the losses, layers, cells and optimizers, and in every function with an equation in its margin, each sign,
factor, term, transpose, index, axis and statement is changed in turn: in memory, in a separate process; the
files stay as they are. Then the tests of that script run, except those that train. Code that several scripts
share is broken only once. Prints the changes that no test noticed; EQUIVALENT lists those that change no
result, and why. Needs a system that can fork; without PyTorch, three changes go unnoticed.
"""
import argparse
import ast
import copy
import importlib
import io
import itertools
import os
import re
import signal
import sys
import unittest
from collections import namedtuple
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import test_all

Mutant = namedtuple("Mutant", "script line old new text")       # text: the whole script, broken

# Not broken, though it has an equation: it computes no gradient, and the tests check a few examples only.
OTHERS = {"multiply_adds"}

# Broken, although their equations are where they are called.
HELPERS = {"unroll", "correlate", "kernel_gradient", "spread", "flat"}

# Mutants that change no result. The reason: (a piece of the line, how the old text begins, how the new), ...
EQUIVALENT = {
    "any negative size means the rest": [
        ("np.stack(columns, axis=2)", "1", "(2)"), ("return X.reshape(-1, X.shape[-1])", "1", "(2)"),
        ("dA.reshape(*self.shape, -1)", "1", "(2)"),
        ("dU[t].reshape(-1, N)", "1", "(2)"), ("a.reshape(T, -1, N)", "1", "(2)"),
        (".reshape(units, -1, N)", "1", "(2)"), ("reshape(X.shape[1], -1)", "1", "(2)"),
        ("W.swapaxes(1, 2).reshape(len(W), -1)", "1", "(2)"), ("Z.reshape(*Z.shape[:2], -1, N)", "1", "(2)"),
        ("dZ.reshape(K, len(windows), -1)", "1", "(2)"), ("reshape(-1, K) @ Z.reshape(K, -1)", "1", "(2)")],
    "more room than needed: the rest is never read": [
        ("padded = np.zeros", "2", "(3)"), ("X = np.zeros((C, height + 2", "2", "(3)")],
    "zip ends with the shorter": [("zip(X.shape[1:3], self.kernel)", "3", "(4)")],
    "noise is as likely below 0 as above": [
        ("X = X + np.float32(noise)", "X + np.float32", "(X - np.float32")],
    "both ways find the same directions, whatever the scale": [
        ("if len(X) < X.shape[1]:", "len(X) <", "(len(X) >"),
        ("eigh(X.T @ X / len(X))", "X.T @ X /", "(X.T @ X")],
    "what is added to a row of distances, or to all points, cancels": [
        ("X.astype(np.float64) - X.mean", "X", "(X")],
    "a guard against a division by zero, or a range wide enough": [
        ("d /= d.mean", "d.mean", "(d.mean(axis=1, keepdims=True) - 1e-300"),
        ("d /= d.mean", "1e-300", "(1.1"), ("d /= d.mean", "d.mean", "(d.sum"),
        ("low, high = 1e-12, 1e24", "1e", "(1"), ("for _ in range(45):", "45", "(46)"),
        ("np.maximum(", "1e-30", "(1.1"), ("1e-4 / (Y[:, 0].std()", "1e-30", "(1.1"),
        ("1e-4 / (Y[:, 0].std()", "Y[:, 0].std() +", "(Y[:, 0].std()")],
    "only the sign counts": [("gains = np.where(m * dY > 0", "m * dY", "(m / dY)")],
    "it only has to happen now and then, and to be small": [
        ("self.t % 50 == 0:", "0", "(1)"), ("self.t % 50 == 0:", "50", "(51)"),
        ("self.t % 50 == 0:", "self.t % 50 ==", "(self.t % 50 !="), ("theta + 1e-18", "1e-18", "(1.1"),
        ("theta + 1e-18", "self.weight_decay * theta +", "(self.weight_decay * theta -")],
    "the size of the pieces": [
        ("1 + a.size // 50_000", "1 + a", "(1)"), ("1 + a.size // 50_000", "1", "(2)"),
        ("1 + a.size // 50_000", "a.size //", "(a.size)"), ("1 + a.size // 50_000", "50_000", "(50001)")]}

def equivalent(mutant):
    line = source(mutant.script).splitlines()[mutant.line - 1]
    return any(piece in line and mutant.old.startswith(old) and mutant.new.startswith(new)
               for pieces in EQUIVALENT.values() for piece, old, new in pieces)

# --- How to break a node of the syntax tree -------------------------------------------------------------

SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.MatMult: ast.Mult,
         ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.Lt, ast.LtE: ast.Gt, ast.Eq: ast.NotEq}
CALLS = {"sum": "mean", "mean": "sum", "maximum": "minimum", "max": "min", "tanh": "sin", "exp": "sin",
         "log": "sin", "sqrt": "abs", "subtract": "add", "zeros": "ones", "ones": "zeros"}

def changed(node, **fields):
    node = copy.copy(node)
    vars(node).update(fields)
    return node

def breaks(node):
    """The replacements for a node: the same with another sign, a term dropped, the next index, ..."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in SWAPS:
            yield changed(node, op=SWAPS[type(node.op)]())
        if not isinstance(node.op, ast.MatMult):
            yield from (node.left, node.right)
    elif isinstance(node, ast.AugAssign):
        yield ast.Pass()
        if type(node.op) in SWAPS:
            yield changed(node, op=SWAPS[type(node.op)]())
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        yield ast.Pass()
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield changed(node, ops=[SWAPS[type(node.ops[0])]()])
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield changed(node, value=node.value + (1 if isinstance(node.value, int) else 0.1 * node.value))
    elif isinstance(node, ast.Call):
        name = node.func
        if isinstance(name, ast.Attribute) and name.attr in CALLS:
            other = CALLS[name.attr]                    # np.abs, but there is no math.abs
            yield changed(node, func=ast.Name("abs") if other == "abs" else changed(name, attr=other))
        elif isinstance(name, ast.Name) and name.id == "reversed":
            yield node.args[0]

def parts(tree, text, known):
    """The functions to break: methods of classes that have forward, update or step; and, of the functions,
    HELPERS and those with an equation in the margin. Skips those `known` from an earlier script."""
    for node in tree.body:
        if getattr(node, "name", None) in known:
            continue
        inside = [f for f in getattr(node, "body", []) if isinstance(f, ast.FunctionDef)]
        if isinstance(node, ast.ClassDef) and {f.name for f in inside} & {"forward", "update", "step"}:
            yield from inside
        elif isinstance(node, ast.FunctionDef) and node.name not in {*test_all.PER_SCRIPT, *OTHERS}:
            if node.name in HELPERS or re.search(r"# \(\d+\)", ast.get_source_segment(text, node)):
                yield node

def source(script):
    return (ROOT / f"{script}.py").read_text(encoding="utf-8")

def mutants(script):
    """All mutants of a script."""
    text, earlier = source(script), itertools.takewhile(lambda name: name != script, test_all.SCRIPTS)
    earlier = [node for other in earlier for node in ast.parse(source(other)).body]
    known = {node.name for node in earlier if hasattr(node, "name")}
    starts = [0]                                        # of each line, in bytes, as in the syntax tree
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for function in parts(ast.parse(text), text, known):
        spared = {inner for outer in ast.walk(function) if isinstance(outer, (ast.Raise, ast.arguments))
                  for inner in ast.walk(outer)}
        for node in set(ast.walk(function)) - spared:
            for new in breaks(node):
                start, end = (starts[line - 1] + column for line, column in (
                    (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)))
                old = text.encode()[start:end].decode()
                new = ast.unparse(new) if isinstance(new, ast.stmt) else f"({ast.unparse(new)})"
                broken = text.encode()[:start] + new.encode() + text.encode()[end:]
                yield Mutant(script, node.lineno, old, new, broken.decode())

# --- Does a test notice? --------------------------------------------------------------------------------

def tests(script):
    """The tests of a script, without those that train for long."""
    chosen, loader = unittest.TestSuite(), unittest.defaultTestLoader
    for case in getattr(test_all, f"Test_{script}"), test_all.TestTorch:
        for method in loader.getTestCaseNames(case):
            if "learns" not in method and (case is not test_all.TestTorch or script in method):
                chosen.addTest(case(method))
    return chosen

def survives(mutant):
    """Whether the tests pass with the broken script. (Call it in its own process: there is no way back.)"""
    sys.stdout = sys.stderr = io.StringIO()
    module = getattr(test_all, mutant.script)
    try:
        exec(compile(mutant.text, module.__file__, "exec"), vars(module))
        importlib.reload(test_all)
    except Exception:
        return False
    runner = unittest.TextTestRunner(stream=io.StringIO(), failfast=True)
    return runner.run(tests(mutant.script)).wasSuccessful()

def survivors(found):
    """The mutants that no test notices. Each runs in its own process, as many at a time as there are
    processors; one that takes more than a minute counts as noticed."""
    running, alive = {}, []

    def wait():
        pid, status = os.wait()
        mutant = running.pop(pid)
        if status == 0:
            alive.append(mutant)

    for mutant in found:
        if len(running) == os.cpu_count():
            wait()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            os._exit(0 if survives(mutant) else 1)
        running[pid] = mutant
    while running:
        wait()
    return sorted(alive, key=lambda mutant: mutant.line)

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("scripts", nargs="*", default=list(test_all.SCRIPTS), help="default: all")
    parser.add_argument("--list", action="store_true", help="only print the mutants")
    args = parser.parse_args(argv)
    if not set(args.scripts) <= set(test_all.SCRIPTS):
        parser.error(f"choose from {', '.join(test_all.SCRIPTS)}")
    total = 0
    for script in args.scripts:
        found = sorted(mutants(script), key=lambda mutant: mutant.line)
        if args.list:
            print(*(f"{m.script}.py:{m.line}: {m.old}  ->  {m.new}" for m in found), sep="\n")
            continue
        assert survivors([Mutant(script, 0, "", "", source(script))]), f"{script}.py fails even when unbroken"
        alive = survivors(found)
        unnoticed = [mutant for mutant in alive if not equivalent(mutant)]
        total += len(unnoticed)
        print(f"{script}.py: {len(found)} mutants, {len(found) - len(alive)} noticed, "
              f"{len(alive) - len(unnoticed)} equivalent, {len(unnoticed)} unnoticed", flush=True)
        for m in unnoticed:
            print(f"    {m.script}.py:{m.line}: {m.old}  ->  {m.new}", flush=True)
    return total

if __name__ == "__main__":
    sys.exit(1 if main() else 0)
