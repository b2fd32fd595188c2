"""The page's formulas, in MathML: browsers set them without a script."""

from __future__ import annotations


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _i(name: str) -> str:
    return f"<mi>{name}</mi>"


def _n(number: str) -> str:
    return f"<mn>{number}</mn>"


def _o(sign: str) -> str:
    return f"<mo>{sign}</mo>"


def _sub(base: str, below: str) -> str:
    return f"<msub>{base}{below}</msub>"


def _root(inside: str) -> str:
    return f"<msqrt>{inside}</msqrt>"


def _over(above: str, below: str) -> str:
    return f"<mfrac>{above}{below}</mfrac>"


def _hat(base: str) -> str:
    return f"<mover>{base}{_o('^')}</mover>"


def _call(function: str, *arguments: str) -> str:
    inside = _o(",").join(arguments)
    return _row(function, _o("("), inside, _o(")"))


def shown(*parts: str) -> str:
    """A formula in a line of its own."""
    return f'<math display="block">{_row(*parts)}</math>'


_xt, _x0, _eps = _sub(_i("x"), _i("t")), _sub(_i("x"), _n("0")), _i("ε")
_bar = _sub(f"<mover>{_i('α')}{_o('¯')}</mover>", _i("t"))
_rest = _row(_n("1"), _o("−"), _bar)
_guess = _hat(_eps)

FORWARD = shown(
    _xt, _o("="), _root(_bar), _x0, _o("+"), _root(_rest), _eps, _o(","), _eps, _o("∼"), _call(_i("N"), _n("0"), _n("1"))
)

ONE_STEP = shown(_hat(_x0), _o("="), _over(_row(_xt, _o("−"), _root(_rest), _call(_guess, _xt, _i("t"))), _root(_bar)))

_alpha, _beta = _sub(_i("α"), _i("t")), _sub(_i("β"), _i("t"))
_prior = _sub(f"<mover>{_i('α')}{_o('¯')}</mover>", _row(_i("s")))

STEP = shown(
    _sub(_i("x"), _i("s")),
    _o("="),
    _over(_row(_root(_prior), _beta), _rest),
    _hat(_x0),
    _o("+"),
    _over(_row(_root(_alpha), _o("("), _n("1"), _o("−"), _prior, _o(")")), _rest),
    _xt,
    _o("+"),
    _sub(_i("v"), _i("t")),
)

GUIDANCE = shown(
    _i("ε"),
    _o("="),
    _sub(_eps, _i("u")),
    _o("+"),
    _i("γ"),
    _o("("),
    _sub(_eps, _i("c")),
    _o("−"),
    _sub(_eps, _i("u")),
    _o(")"),
)

INPAINT = shown(
    _xt,
    _o("←"),
    _i("m"),
    _xt,
    _o("+"),
    _o("("),
    _n("1"),
    _o("−"),
    _i("m"),
    _o(")"),
    _call("<mtext>forward</mtext>", _sub(_i("x"), _i("orig")), _i("t")),
)

_view = f"<msup>{_i('V')}{_row(_o('−'), _n('1'))}</msup>"

ANAGRAM = shown(
    _i("ε"),
    _o("="),
    _over(_n("1"), _n("2")),
    _o("("),
    _call(_guess, _xt, _sub(_i("p"), _n("1"))),
    _o("+"),
    _view,
    _call(_guess, _row(_i("V"), _xt), _sub(_i("p"), _n("2"))),
    _o(")"),
)

HYBRID = shown(
    _i("ε"),
    _o("="),
    _sub(_i("f"), _i("low")),
    _call(_guess, _xt, _sub(_i("p"), _i("far"))),
    _o("+"),
    _sub(_i("f"), _i("high")),
    _call(_guess, _xt, _sub(_i("p"), _i("near"))),
)


def _squared(*inside: str) -> str:
    return f"<msup>{_row(_o('‖'), *inside, _o('‖'))}{_n('2')}</msup>"


_noised = _row(_x0, _o("+"), _i("σ"), _eps)
LOSS = shown(_i("L"), _o("="), _i("E"), _squared(_call(_sub(_i("D"), _i("θ")), _noised), _o("−"), _x0))

LOSS_TIME = shown(_i("L"), _o("="), _i("E"), _squared(_call(_sub(_eps, _i("θ")), _xt, _i("t")), _o("−"), _eps))

FLOW = shown(
    _xt, _o("="), _o("("), _n("1"), _o("−"), _i("t"), _o(")"), _x0, _o("+"), _i("t"), _eps, _o(","),
    _call(_sub(_i("u"), _i("θ")), _xt, _i("t")), _o("≈"), _eps, _o("−"), _x0,
)  # fmt: skip
