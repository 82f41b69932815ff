# SPDX-License-Identifier: GPL-2.0-only
"""Where the DMA handle of a buffer lives.

An existing variable or field that holds nothing but this buffer's bus address
is reused; else the handle gets a place beside the pointer.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from . import cparse as c
from .alias import declaration
from .allocation import expression
from .checks import parents
from .driver import Driver, Object, strip, text
from .plan import Addition
from .pointer import Pointers, Use, assigned_to, prints
from .reach import Definitions, is_null

_INTEGERS = frozenset(
    'int long short unsigned u32 u64 s32 s64 __u32 __u64 uint32_t uint64_t '
    'size_t ulong uint phys_addr_t resource_size_t dma_addr_t dma64_addr_t '
    'ULONG UINT32 uintptr_t'.split()) | {
        'unsigned int', 'unsigned long', 'unsigned long long', 'long long',
        'unsigned long int', 'long unsigned int', 'long int'}
_COHERENT = frozenset('dma_alloc_coherent dmam_alloc_coherent dma_alloc_attrs '
                      'dmam_alloc_attrs dma_zalloc_coherent '
                      'dma_alloc_noncoherent'.split())

_SIGNED = frozenset('< > <= >= >>'.split())     # what signed integers do else


class NoHandle(Exception):
    """There is no place for a handle; args are message, path, line."""


@dataclass
class Handle:
    """The handle of a buffer.

    name replaces the pointer's name in an lvalue; additions declare it.
    """

    name: str
    additions: list[Addition] = field(default_factory=list)
    reused: set[int] = field(default_factory=set)    # ids of assigning calls
    instead: dict[str, str] = field(default_factory=dict)  # local -> handle

    def beside(self, pointer: c.Expr) -> str:
        """The handle that belongs to a pointer lvalue."""
        pointer = strip(pointer)
        if isinstance(pointer, c.Index):
            return '%s[%s]' % (self.beside(pointer.base),
                               text(pointer.index, casts=True))
        if isinstance(pointer, c.Member):
            whole = text(pointer)
            return whole[:len(whole) - len(pointer.name)] + self.name
        if isinstance(pointer, c.Id) and pointer.name in self.instead:
            return self.instead[pointer.name]
        return self.name

    def assigned_by(self, site) -> c.Expr | None:
        return site.call if id(site.call) in self.reused else None


def existing_allocation(driver: Driver, definitions: Definitions, obj: Object,
                        uses: list[Use]) -> Handle | None:
    """The handle that dma_alloc_coherent() gave for this very pointer."""
    names: set[str] = set()
    for use in uses:
        if use.kind != 'assigned' or use.of != obj:
            continue
        value = strip(use.node)
        if is_null(value):
            continue
        if not isinstance(value, c.Call) or value.name not in _COHERENT \
                or len(value.args) < 4 or use.func is None:
            return None
        at = strip(value.args[2])
        if not isinstance(at, c.Unary) or at.op != '&':
            return None
        at = strip(at.arg)
        pointer = strip(assigned_to(use))
        if pointer is None or not isinstance(at, (c.Id, c.Member)) \
                or not isinstance(pointer, type(at)):
            return None
        if isinstance(at, c.Member) and (text(at.base) != text(pointer.base)
                                         or at.arrow != pointer.arrow):
            return None
        found = driver.object_of(at, use.func)
        if found is None or found.owner != obj.owner or found.kind != obj.kind \
                or definitions.of(found):
            return None
        if len(definitions.addresses(found)) != len([
                u for u in uses if u.kind == 'assigned' and u.of == obj
                and not is_null(u.node)]):
            return None
        names.add(at.name)
    if len(names) != 1 or any(u.kind == 'unknown' and 'moves' in u.why
                              for u in uses if u.of == obj):
        return None
    return Handle(names.pop())


def choose(driver: Driver, definitions: Definitions, pointers: Pointers,
           obj: Object, sites: list, allocations: list[Use],
           func: c.Function | None, anchors: set[str],
           hardware: frozenset[str]) -> Handle:
    """The handle for a buffer that becomes coherent memory.

    anchors are the fields beside which a handle is declared already, hardware
    the structs whose layout belongs to the device.
    """
    if obj.kind == 'local' and len(driver.definitions(func.name)) > 1:
        raise NoHandle('the driver has several functions called %s(): SmPL '
                       'would declare a handle in each' % func.name, func.path,
                       func.first.line)
    reused = _existing(driver, definitions, pointers, obj, sites)
    if reused and not (reused.additions and obj.owner in hardware):
        return reused
    if obj.kind == 'field' and obj.owner in hardware:
        raise NoHandle('%s is read by the device: a handle cannot be put in'
                       % obj.owner, driver.struct(obj.owner).path,
                       driver.struct(obj.owner).first.line)
    if obj.kind == 'field':
        return _new_field(driver, obj, anchors)
    if obj.kind == 'local':
        return _new_local(driver, obj, func)
    return _new_global(driver, obj, sites, allocations)


# ------------------------------------------------------ one that exists already

def _existing(driver: Driver, definitions: Definitions, pointers: Pointers,
              obj: Object, sites: list) -> Handle | None:
    for site in sites:
        left = _kept_in(site)
        if left is None or site.address.terms:
            continue
        found = driver.object_of(left, site.func)
        base = strip(site.address.base)
        if found is None or found.kind != obj.kind or found.owner != obj.owner \
                or not isinstance(left, type(base)):
            continue
        if isinstance(base, c.Member) and text(left.base) != text(base.base):
            continue
        if not isinstance(base, (c.Id, c.Member)):
            continue
        reused = _only_this(driver, definitions, found, obj, sites)
        if reused and _may_be_retyped(driver, pointers, found, site.func):
            return Handle(found.name, _retype(driver, found, site.func), reused)
    return None


def _kept_in(site) -> c.Expr | None:
    """The lvalue of a statement `lvalue = virt_to_bus(...);`."""
    above = parents(site.func)
    node, up = site.call, above.of(site.call)
    while isinstance(up, (c.Paren, c.Cast)):
        node, up = up, above.of(up)
    if isinstance(up, c.Assign) and up.right is node and up.op == '=' \
            and isinstance(above.of(up), c.ExprStmt) \
            and isinstance(above.of(above.of(up)), c.Block):
        return strip(up.left)
    return None


def _only_this(driver: Driver, definitions: Definitions, found: Object,
               obj: Object, sites: list) -> set[int]:
    """ids of the calls whose result it is set to; empty: also something else."""
    calls = {id(s.call): s for s in sites if not s.address.terms}
    out: set[int] = set()
    for value, place in definitions.of(found):
        value = strip(value)
        if id(value) in calls:
            site = calls[id(value)]
            left = _kept_in(site)
            if left is None or isinstance(strip(site.address.base), c.Member) \
                    and text(left.base) != text(strip(site.address.base).base):
                return set()
            out.add(id(value))
        elif not is_null(value):
            return set()
    if definitions.addresses(found):
        return set()
    return out


def _may_be_retyped(driver: Driver, pointers: Pointers, found: Object,
                    func: c.Function) -> bool:
    var = _variable(driver, found, func)
    if var is None or var.type.dims or var.type.pointers \
            or var.type.base not in _INTEGERS:
        return False
    if var.type.base == 'dma_addr_t':
        return True
    if found.kind != 'local' and pointers.hidden(found.name):
        return False
    decl = _declaration(driver, found, func)
    if decl is None or len(decl.variables) != 1:
        return False
    signed = var.type.base in ('int', 'long', 's32', 'long int', 's64')
    for inside, node in pointers.mentions(found.name):
        if driver.object_of(node, inside) != found:
            continue
        for up in parents(inside).chain(node):
            if isinstance(up, c.Cast) and up.type.pointers \
                    or isinstance(up, c.Call) and prints(up) \
                    or isinstance(up, c.Binary) and (
                        up.op in ('/', '%', '*', '<<')
                        or up.op in _SIGNED and signed) \
                    or isinstance(up, c.Unary) and up.op in '~-' \
                    or isinstance(up, c.Sizeof):
                return False            # a wider type would give another value
            if isinstance(up, (c.Stmt, c.Assign)):
                break
    return True


def _retype(driver: Driver, found: Object, func: c.Function) -> list[Addition]:
    var = _variable(driver, found, func)
    if var.type.base == 'dma_addr_t':
        return []
    owner = _owner(driver, found)
    path = driver.struct(found.owner).path if found.kind == 'field' \
        else _file_of(driver, found, func)
    return [Addition(('retype', found.kind, owner, found.name), path,
                     declaration=(found.kind, owner, found.name)),
            Addition(('retype', found.name), path)]


# ----------------------------------------------------------------- a new one

def _new_field(driver: Driver, obj: Object, anchors: set[str]) -> Handle:
    struct = driver.struct(obj.owner)
    var, decl = struct.fields[obj.name], struct.declarations[obj.name]
    at = (struct.path, decl.first.line)
    source = driver.file(struct.path)
    if not struct.tag.startswith('struct '):
        raise NoHandle('`%s` is in a union: give it a struct of its own'
                       % str(obj), *at)
    owner = _owner(driver, obj)
    if '@' in owner:
        raise NoHandle('`%s` is in a struct without a name of its own: a handle '
                       'cannot be put beside it' % obj.name, *at)
    after = source.text[struct.last.end:struct.last.end + 40].split(';')[0]
    head = source.text[struct.first.start:struct.first.end + 40].split('{')[0]
    if 'packed' in after or 'packed' in head:
        raise NoHandle('%s is packed, a layout that is fixed by hardware or '
                       'firmware: a handle cannot be put in' % obj.owner, *at)
    positional = _positional(driver, owner)
    if positional:
        raise NoHandle('%s is initialised without field names, which a new '
                       'field would shift' % obj.owner, *positional)
    if len(var.type.dims) > 1:
        raise NoHandle('`%s` has more than one dimension' % str(obj), *at)
    name = _free_name(obj.name, set(struct.fields), driver)
    if len(decl.variables) != 1:
        return _near(obj, owner, name, struct, decl, anchors)
    kind = 'typedef' if '@' in obj.owner else 'field'
    if kind == 'typedef' and var.type.dims:
        raise NoHandle('`%s` is an array in a struct without a tag' % obj.name,
                       *at)
    if struct.tag + obj.name in anchors:
        raise NoHandle('the handle of another pointer stands beside `%s`'
                       % str(obj), *at)
    anchors.add(struct.tag + obj.name)
    return _declared(driver, kind, owner, obj.name, name, struct.path, decl, var)


def _near(obj: Object, owner: str, name: str, struct: c.Struct, decl: c.Decl,
          anchors: set[str]) -> Handle:
    """A handle for `u8 *rx, *tx;`: beside the next field that stands alone."""
    order = list(dict.fromkeys(struct.declarations.values()))
    place = next(i for i, d in enumerate(order) if d is decl)
    for side, near in [('before', d) for d in order[place + 1:]] + [
            ('after', d) for d in reversed(order[:place])]:
        var = near.variables[0] if len(near.variables) == 1 else None
        if var is None or var.function or var.type.dims or '@' in obj.owner \
                or struct.fields[obj.name].type.dims \
                or struct.tag + var.name in anchors:
            continue
        anchors.add(struct.tag + var.name)
        return Handle(name, [
            Addition((side, 'field', owner, var.name), struct.path,
                     {'handle': name, 'count': ''}, ('field', owner, var.name)),
            Addition((side, 'field', var.name), struct.path)])
    raise NoHandle('`%s` is declared together with other fields: declare it '
                   'alone, so that a handle can stand beside it' % str(obj),
                   struct.path, decl.first.line)


def _new_local(driver: Driver, obj: Object, func: c.Function) -> Handle:
    decl = declaration(obj.name, func)
    var = func.locals[obj.name]
    if decl is None or var.static:
        raise NoHandle('`%s` is static in %s()' % (obj.name, func.name),
                       func.path, func.first.line)
    if len(decl.variables) != 1:
        raise NoHandle('`%s` is declared together with other variables: declare '
                       'it alone' % obj.name, func.path, decl.first.line)
    if var.type.dims:
        raise NoHandle('`%s` is an array' % obj.name, func.path, decl.first.line)
    name = _free_name(obj.name, set(func.words) | set(func.locals), driver)
    return _declared(driver, 'local', func.name, obj.name, name, func.path, decl,
                     var)


def _new_global(driver: Driver, obj: Object, sites: list,
                allocations: list[Use]) -> Handle:
    places = [s for s in driver.files_naming(obj.name)
              if obj.name in s.globals]
    var = places[0].globals[obj.name]
    if len(places) != 1 or not var.static:
        raise NoHandle('`%s` is visible in the whole kernel: make it static, or '
                       'a field of the driver\'s data' % obj.name,
                       places[0].path, var.first.line)
    source = places[0]
    line = source.text[:var.first.start].rpartition('\n')[2] \
        + source.text[var.first.start:].split(';')[0]
    if ',' in line or var.type.dims or '{' in line:
        raise NoHandle('`%s` is declared together with other variables, or is '
                       'an array: declare it alone' % obj.name, source.path,
                       var.first.line)
    taken = {w for f in source.all_functions() for w in f.words} \
        | {n for s in driver.files for n in s.globals}
    name = _free_name(obj.name, taken, driver)
    return _declared(driver, 'global', '', obj.name, name, source.path, None, var)


def _declared(driver: Driver, kind: str, owner: str, name: str, handle: str,
              path: str, decl: c.Decl | None, var: c.Variable) -> Handle:
    """The additions that declare a handle beside a pointer."""
    last = decl.last if decl is not None else var.last
    rest = driver.file(path).text[last.end:].split('\n', 1)[0].lstrip(' \t;')
    side = 'after'
    if var.type.dims:
        side = 'array'
    elif rest.startswith(('/*', '//')) or kind in ('typedef', 'global') \
            or kind == 'local' and var.init is not None:
        side = 'before'             # u8 *p = dma_alloc_coherent(.., &p_dma, ..)
    values = {'handle': handle, 'count': expression(''.join(var.type.dims))}
    return Handle(handle, [Addition((side, kind, owner, name), path, values,
                                    (kind, owner, name)),
                           Addition((side, kind, name), path)])


def _free_name(name: str, taken: set[str], driver: Driver) -> str:
    for ending in ('_dma', '_dma_addr', '_dma_handle'):
        if name + ending not in taken and not driver.macro(name + ending):
            return name + ending
    raise NoHandle('every name for a handle of `%s` is taken' % name)


def _owner(driver: Driver, obj: Object) -> str:
    """The name of the struct as a semantic patch can match it."""
    if obj.kind != 'field':
        return obj.owner or ''
    if '@' not in obj.owner:
        return obj.owner.split(' ', 1)[1]
    for source in driver.files_naming('typedef'):
        for name, kind in source.typedefs.items():
            if kind.base == obj.owner and not kind.pointers:
                return name
    return obj.owner


def _positional(driver: Driver, owner: str) -> tuple[str, int] | None:
    """An initialiser of the struct that goes by position."""
    for source in driver.files:
        for var in source.globals.values():
            if var.type.base.split(' ')[-1] == owner \
                    and isinstance(var.init, c.InitList):
                lists = [var.init] if not var.type.dims else [
                    i for i in var.init.items if isinstance(i, c.InitList)]
                if any(len(i.items) > 1 and not all(i.names) for i in lists):
                    return source.path, var.first.line
    return None


def _variable(driver: Driver, found: Object,
              func: c.Function) -> c.Variable | None:
    if found.kind == 'field':
        struct = driver.struct(found.owner)
        if struct is None or not struct.tag.startswith('struct ') \
                or '@' in found.owner:
            return None
        return struct.fields.get(found.name)
    if found.kind == 'local':
        if any(p.name == found.name for p in func.params):
            return None
        return func.locals.get(found.name)
    var = driver.variable(found.name)
    return var if var and var.static else None


def _declaration(driver: Driver, found: Object,
                 func: c.Function) -> c.Decl | None:
    if found.kind == 'field':
        return driver.struct(found.owner).declarations.get(found.name)
    if found.kind == 'local':
        return declaration(found.name, func)
    var = driver.variable(found.name)
    return c.Decl(var.first, var.last, [var])


def _file_of(driver: Driver, found: Object, func: c.Function) -> str:
    if found.kind == 'local':
        return func.path
    return next(s.path for s in driver.files_naming(found.name)
                if found.name in s.globals)
