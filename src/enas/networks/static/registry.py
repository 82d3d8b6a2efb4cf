"""The static programs by the network that they are of."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from enas.networks.macro import MacroNetwork
from enas.networks.micro import MicroNetwork
from enas.networks.nasbench201 import NasBench201Network
from enas.networks.nasbench_macro import NasBenchMacroNetwork
from enas.networks.static.macro import MacroProgram
from enas.networks.static.micro import MicroProgram
from enas.networks.static.nasbench201 import NasBench201Program
from enas.networks.static.nasbench_macro import NasBenchMacroProgram
from enas.networks.static.program import Program
from enas.networks.supernet import Supernet

PROGRAMS: dict[type[Supernet], type[Program]] = {
    MicroNetwork: MicroProgram,
    MacroNetwork: MacroProgram,
    NasBench201Network: NasBench201Program,
    NasBenchMacroNetwork: NasBenchMacroProgram,
}
_made: WeakKeyDictionary[Supernet, Program] = WeakKeyDictionary()


def program_of(net: Supernet) -> Program | None:
    """Returns the static program of a supernet, made once; None where there is none. Its parameters
    become views of one vector."""
    made = PROGRAMS.get(type(net))
    if made is None or not made.fits(net):
        return None
    program = _made.get(net)
    if program is None or not program.layout.shared.whole:
        program = _made[net] = made(net)
    return program
