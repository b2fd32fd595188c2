"""The page's formulas, in LaTeX. They are set in MathML, which browsers draw without a script."""

from __future__ import annotations

NOISED = r"\sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \varepsilon"
FORMULAS = {  # "is drawn from" is \thicksim, for \sim comes out as the tilde of the keyboard
    "forward": r"x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \varepsilon , \quad \varepsilon \thicksim N(0, 1)",
    "one_step": r"\hat{x}_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t} \hat\varepsilon(x_t, t)}{\sqrt{\bar\alpha_t}}",
    "step": r"x_s = \frac{\sqrt{\bar\alpha_s} \beta_t}{1 - \bar\alpha_t} \hat{x}_0"
    r" + \frac{\sqrt{\alpha_t} (1 - \bar\alpha_s)}{1 - \bar\alpha_t} x_t + v_t",
    "guidance": r"\varepsilon = \varepsilon_u + \gamma (\varepsilon_c - \varepsilon_u)",
    "inpaint": r"x_t \leftarrow m x_t + (1 - m) \text{forward}(x_\text{orig}, t)",
    "anagram": r"\varepsilon = \frac{1}{2} (\hat\varepsilon(x_t, p_1) + V^{-1} \hat\varepsilon(V x_t, p_2))",
    "hybrid": r"\varepsilon = f_\text{low} \hat\varepsilon(x_t, p_\text{far})"
    r" + f_\text{high} \hat\varepsilon(x_t, p_\text{near})",
    "loss": r"L = E \left\| D_\theta(x_0 + \sigma \varepsilon) - x_0 \right\|^2",
    "loss_pure": r"L = E \left\| D_\theta(\varepsilon) - x_0 \right\|^2",
    "mean": r"D^*(\varepsilon) = E[x_0 \mid \varepsilon] = E[x_0]",
    "loss_time": r"L = E \left\| \varepsilon_\theta(x_t, t) - \varepsilon \right\|^2",
    "betas": r"\beta_t = 0.0001 + \frac{t - 1}{T - 1} (0.02 - 0.0001)",
    "products": r"\alpha_t = 1 - \beta_t , \quad \bar\alpha_t = \prod_{s = 1}^t \alpha_s",
    "gradient": rf"\nabla_\theta \left\| \varepsilon - \varepsilon_\theta({NOISED}, t) \right\|^2",
    "gradient_class": rf"\nabla_\theta \left\| \varepsilon - \varepsilon_\theta({NOISED}, t, c) \right\|^2",
    "previous": r"x_{t-1} = \frac{\sqrt{\bar\alpha_{t-1}} \beta_t}{1 - \bar\alpha_t} \hat{x}_0"
    r" + \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t + \sqrt{\beta_t} z",
    "flow": r"x_t = (1 - t) x_0 + t \varepsilon , \quad u_\theta(x_t, t) \approx \varepsilon - x_0",
    "flow_gradient": r"\nabla_\theta \left\| u_\theta((1 - t) x_0 + t \varepsilon, t) - (\varepsilon - x_0) \right\|^2",
    "flow_gradient_class": r"\nabla_\theta \left\| u_\theta((1 - t) x_0 + t \varepsilon, t, c) - (\varepsilon - x_0) \right\|^2",
    "flow_step": r"x_{t - \frac{1}{T}} = x_t - \frac{1}{T} u_\theta(x_t, t)",
    "flow_guidance": r"u = u_u + \gamma (u_c - u_u)",
    "flow_loss": r"L = E \left\| u_\theta(x_t, t) - (\varepsilon - x_0) \right\|^2",
}


def mathml(name: str) -> str:
    """The formula ``name`` in a line of its own."""
    from latex2mathml.converter import convert

    # Else a root's line lies on a letter without a bar as if it were one.
    return convert(FORMULAS[name], display="block").replace("<msqrt>", '<msqrt><mspace height="1em" />')
