"""The article in sixty lines: scores at several noise levels, and annealed Langevin dynamics.

    p = 1/5 N((-5, -5), I) + 4/5 N((5, 5), I)

Song and Ermon 2019 (arXiv 1907.05600), Section 3.2 and Figure 3. The file needs torch alone; read
it beside the article. `python ncsn_in_60_lines.py [STEPS]` trains for STEPS steps (3000, about
15 s) and prints the fraction of samples in the small mode, truly 0.2, which plain Langevin dynamics
gets wrong.
"""

import sys

import torch
from torch import nn

MODES, WEIGHTS = torch.tensor([[-5.0, -5.0], [5.0, 5.0]]), torch.tensor([0.2, 0.8])
# Noise levels sigma_1 > ... > sigma_L in geometric progression (the article's note 1).
L, T, EPSILON = 10, 100, 0.1
SIGMAS = torch.logspace(torch.log10(torch.tensor(20.0)), 0, L)


def data(n: int) -> torch.Tensor:
    """Draw n points of p."""
    return MODES[torch.multinomial(WEIGHTS, n, replacement=True)] + torch.randn(n, 2)


class NCSN(nn.Module):
    """s_theta(x, sigma_i), one network for all levels: "Noise Conditional Score Network"."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.level = nn.Embedding(L, width)  # the network knows sigma by its index i
        self.first = nn.Linear(2, width)
        hidden = nn.Linear(width, width)
        self.body = nn.Sequential(nn.SiLU(), hidden, nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        # sigma |s| is about one at every level, so the network gives sigma s and sees x on the
        # scale of p_sigma.
        sigma = SIGMAS[i, None]
        return self.body(self.first(x / (25 + sigma**2).sqrt()) + self.level(i)) / sigma


def loss(model: NCSN, x: torch.Tensor) -> torch.Tensor:
    """L(theta) = 1/L sum_i lambda(sigma_i) l(theta; sigma_i) with lambda(sigma) = sigma^2.

    Each sample has a level of its own, drawn at random.
    """
    i = torch.randint(L, (len(x),))
    sigma = SIGMAS[i, None]
    # x~ of q_sigma(x~ | x) = N(x~; x, sigma^2 I), whose score is -(x~ - x) / sigma^2
    noisy = x + sigma * torch.randn_like(x)
    residual = model(noisy, i) + (noisy - x) / sigma**2
    ell = residual.square().sum(1) / 2  # denoising score matching
    return (sigma[:, 0] ** 2 * ell).mean()


@torch.no_grad()
def annealed_langevin(model: NCSN, n: int, start: int = 0) -> torch.Tensor:
    """Algorithm 1 from level `start` on.

    The last level alone is plain Langevin dynamics, with as many steps in all.
    """
    x = torch.rand(n, 2) * 16 - 8  # line 1: initialise, uniform noise
    for i in range(start, L):  # line 2
        # line 3: the ratio of drift to noise is the same at every level
        alpha = EPSILON * SIGMAS[i] ** 2 / SIGMAS[-1] ** 2
        for _ in range(T * (L if start else 1)):  # line 4
            z = torch.randn_like(x)  # line 5
            # line 6: alpha/2 as printed, so that 0.05 = EPSILON/2 is the score's coefficient
            x = x + alpha / 2 * model(x, torch.full((n,), i)) + alpha.sqrt() * z
    return x


def main(steps: int) -> tuple[float, float]:
    torch.manual_seed(0)
    model = NCSN()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        value = loss(model, data(512))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        if step % max(1, steps // 5) == 0:
            print(f"step {step:5d}  loss {value.item():.3f}")
    annealed, plain = annealed_langevin(model, 4000), annealed_langevin(model, 4000, start=L - 1)
    found = tuple(float((x.sum(1) < 0).float().mean()) for x in (annealed, plain))
    print("fraction of samples in the small mode, truly 0.2:")
    print(f"annealed Langevin {found[0]:.3f}, plain Langevin {found[1]:.3f}")
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
