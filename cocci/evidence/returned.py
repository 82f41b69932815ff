# SPDX-License-Identifier: GPL-2.0-only
"""What a function returns when a mapping in it fails."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from . import cparse as c
from .checks import Parents, parents
from .driver import Place, strip, text
from .exits import XMIT, Exit, Path, Unwinder
from .held import Point, result_of, retries, tested_names
from .resources import RESULT_NAME, Refused, is_log, releases

_SIGNED = frozenset('int long s32 ssize_t s64 int32_t'.split())
_CONSTANT = re.compile(r'^(-?\d+|-?[A-Z][A-Z0-9_]*|true|false)$')


class Returned:
    """The questions for one function, at one point of it."""

    def __init__(self, unwinder: Unwinder, point: Point):
        self.of, self.func, self.point = unwinder, unwinder.func, point

    # -- by way of a label

    def status(self, path: Path) -> list[str]:
        """The assignment that makes a label's `return ret` return an error."""
        value = path.value
        if value is None or self._constant(value):
            return []
        if not self._status_itself(value):
            before = self.point.before
            if before is not None and text(before.path.value) == text(value) \
                    and not any(isinstance(x, c.Id)
                                and x.name in before.path.assigned
                                for x in value.walk()):
                return []       # what the failure before returns as well
            raise Refused('the function returns %s, and nothing tells what '
                          'that is on failure' % text(value))
        names = [x.name for x in value.walk() if isinstance(x, c.Id)
                 and x.name in self.func.locals]
        for name in dict.fromkeys(names):
            if name in path.sure:
                return []
            kind = self.func.locals[name].type
            special = self._special(name)
            if special is not None:
                return special
            if kind.base in _SIGNED and not kind.pointers and not kind.dims:
                preset = self.point.assigned.get(name)
                if preset is not None and text(preset) == self.errno():
                    return []
                return ['%s = %s;' % (name, self.errno())]
            if kind.pointers and self.func.returns.pointers:
                return ['%s = %s;' % (name, self._pointer())]
        raise Refused('the function returns %s, and nothing tells what that is '
                      'on failure' % text(value))

    @staticmethod
    def _status_itself(value: c.Expr) -> bool:
        """Is a status returned as it is, and nothing computed of it?"""
        value = strip(value)
        if isinstance(value, c.Ternary):
            value = strip(value.then or value.cond)
        if isinstance(value, c.Call) and value.name == 'ERR_PTR' \
                and value.args:
            value = strip(value.args[0])
        return isinstance(value, c.Id)

    def _special(self, name: str) -> list[str] | None:
        """The assignment to a status that is no errno; None if it is one."""
        given = [text(x.right) for x in self.func.body.walk()
                 if isinstance(x, c.Assign) and text(strip(x.left)) == name]
        var = self.func.locals[name]
        if var.init is not None:
            given.append(text(var.init))
        if not any(g.startswith('NETDEV_TX') for g in given):
            constants = [g for g in given if re.match(r'^[A-Z1-9]', g)
                         and not g.startswith('PTR_ERR')]
            if constants and not any(re.match('-E[A-Z]', g) for g in given):
                raise Refused('nothing tells which value of %s means that a '
                              'mapping failed' % name)
            return None
        if set(given) == {'NETDEV_TX_OK'}:
            return []
        return ['%s = NETDEV_TX_OK;' % name]

    @staticmethod
    def _constant(value: c.Expr) -> bool:
        return all(not isinstance(x, (c.Call, c.Member, c.Index)) or
                   isinstance(x, c.Call) and x.name == 'ERR_PTR'
                   for x in value.walk()) and all(
            re.match(r'^([A-Z][A-Z0-9_]*|true|false|ERR_PTR)$', x.name)
            for x in value.walk() if isinstance(x, c.Id))

    def _pointer(self) -> str:
        returned = self._returned()
        given = returned + [
            text(strip(x.right)) for x in self.func.body.walk()
            if isinstance(x, c.Assign) and text(strip(x.left)) in returned]
        return 'ERR_PTR(-ENOMEM)' if any(
            g.startswith(('ERR_PTR', 'ERR_CAST')) for g in given) \
            or not returned.count('NULL') and any(
                'IS_ERR' in text(g) for g in self._tests_of_result()) \
            else 'NULL'

    def _tests_of_result(self) -> Iterator[c.Expr]:
        """The conditions that callers ask right behind a call."""
        for place in self.of.driver.calls_to(self.func):
            found = exit_behind(Unwinder(self.of.driver, place.function),
                                place.node)
            if found is not None:
                yield found.stmt.cond

    # -- by a return of its own

    def statements(self, confirmed: bool) -> list[str]:
        """The return statement, after what a dropped packet needs.

        confirmed: the exits before and after release the same.
        """
        kind, before = self.func.returns, self.point.before
        if kind.pointers:
            self._not_skb_owner()
            return ['return %s;' % self._pointer()]
        if kind.base == 'void':
            if confirmed and (before is not None or isinstance(
                    self.point.after.jump, c.Return)):
                return ['return;']
            raise Refused('%s() returns nothing, so its callers cannot learn '
                          'of a failure' % self.func.name)
        if kind.base in XMIT:
            return self._dropped() + ['return NETDEV_TX_OK;']
        if kind.base == 'irqreturn_t':
            raise Refused('an interrupt handler cannot tell of a failure')
        self._by_call()
        self._not_skb_owner()
        if not confirmed:
            self._undone_by_others()
        partial = self._partial()
        if partial:
            return ['return %s;' % partial]
        model = before.path.value if before is not None and before.failure \
            else None
        if model is None and self.point.after is not None:
            model = self.point.after.path.value
        if model is not None and self._is_count(model) and not any(
                v.startswith('-') for v in self._returned()):
            return ['return %s;' % text(model)]
        if kind.base in _SIGNED and (self._errnos() or model is not None
                                     and not self._constant(model)):
            return ['return %s;' % self.errno()]
        if model is not None and self._constant(model):
            return ['return %s;' % text(model)]
        value = self._convention()
        if not value:
            raise Refused('nothing tells what %s() returns on failure'
                          % self.func.name)
        self._not_owner()
        return ['return %s;' % value]

    def _by_call(self) -> None:
        """Refuse if the function tells of failure with a call and returns 0."""
        for node in self.func.body.walk():
            if not isinstance(node, c.If):
                continue
            found = self.of.exit_of(node)
            if found is None or text(found.path.value) not in ('', '0'):
                continue
            for call in node.then.walk():
                if isinstance(call, c.Call) and not is_log(call.name) and any(
                        re.match('-E[A-Z]', text(arg)) for arg in call.args):
                    raise Refused('%s() tells of failure with %s (line %d)' % (
                        self.func.name, text(call), call.first.line))

    def _partial(self) -> str:
        """`done ? done : -EFAULT` with the errno of a failed mapping."""
        for node in self.func.body.walk():
            if isinstance(node, c.Return) and isinstance(
                    strip(node.value), c.Ternary):
                value = strip(node.value)
                if value.then is not None and text(value.cond) == text(
                        value.then) and self._is_count(value.then) \
                        and re.match('-E[A-Z]', text(value.other)):
                    return '%s ? %s : %s' % (text(value.cond),
                                             text(value.then), self.errno())
        return ''

    def _not_skb_owner(self) -> None:
        for param in self.func.params:
            if param.type.base == 'struct sk_buff' \
                    and param.type.pointers == 1 \
                    and not self._callers_free(param) \
                    and self._never_frees(param):
                raise Refused('it is not known who frees %s when %s() fails'
                              % (param.name, self.func.name))

    def _undone_by_others(self) -> None:
        """Refuse if functions like this one clean up a parameter of the same
        name when a mapping in them fails."""
        params = {p.name for p in self.func.params if p.type.pointers}
        for func in self.of.driver.functions_with('dma_mapping_error'):
            if func is self.func or func.body is None:
                continue
            theirs = {p.name for p in func.params} & params
            for node in func.body.walk() if theirs else ():
                if not isinstance(node, c.If) \
                        or 'dma_mapping_error' not in text(node.cond):
                    continue
                for call in node.then.walk():
                    if isinstance(call, c.Call) and not releases(call) \
                            and re.search('clean|free|release|unmap',
                                          call.name) and any(
                                text(strip(a)) in theirs for a in call.args):
                        raise Refused('%s() calls %s when a mapping fails, '
                                      'which may be due here' % (
                                          func.name, text(call)))

    def _never_frees(self, param: c.Variable) -> bool:
        return not any(releases(x) == ('skb', param.name)
                       for x in self.func.calls())

    def _convention(self) -> str:
        """The value by what its callers ask, or by what its like returns."""
        base = self.func.returns.base
        asked = set(self._asked())
        if base == 'bool' and asked == {'zero'}:
            return 'false'
        given = self._returned()
        if base == 'bool' and not asked - {'zero', 'passed on'} \
                and self._last() == 'true':
            return 'false'
        if base == 'bool' and {'true', 'false'} <= set(given) \
                and self._last() == 'true':
            return 'false'
        signed = base in _SIGNED
        numbers = {g for g in given if _CONSTANT.match(g)} - {'0'}
        if signed and numbers == {'1'} and self._last() == '0' and not any(
                isinstance(x, c.Label) for x in self.func.body.walk()):
            return '1'
        if signed and '0' in given and any(
                '(' not in g and not _CONSTANT.match(g)
                and not RESULT_NAME.match(g) for g in given):
            return ''           # the number of what was done
        alike = self._alike()
        if alike and not (signed and alike.lstrip('-').isdigit()):
            return alike
        if signed and not numbers and asked \
                and asked <= {'nonzero', 'negative', 'passed on'}:
            return self.errno()
        if base == 'int' and set(given) == {'0'} and not any(
                isinstance(x, c.Goto) for x in self.func.body.walk()):
            return self.errno()     # what else could a failure be told with?
        return ''

    def _returned(self) -> list[str]:
        return [text(strip(x.value)) for x in self.func.body.walk()
                if isinstance(x, c.Return) and x.value is not None]

    def _last(self) -> str:
        """What the function returns at its end."""
        last = self.func.body.body[-1]
        return text(strip(last.value)) if isinstance(last, c.Return) \
            and last.value is not None else ''

    def _alike(self) -> str:
        """The constant that functions of the driver with the same type return
        when a mapping fails, if they are of one mind."""
        found: Counter[str] = Counter()
        for func in self.of.driver.functions_with('dma_mapping_error'):
            if func is self.func or func.body is None \
                    or func.returns != self.func.returns:
                continue
            for node in func.body.walk():
                if not isinstance(node, c.If) \
                        or 'dma_mapping_error' not in text(node.cond):
                    continue
                for sub in node.then.walk():
                    if isinstance(sub, c.Return) and sub.value is not None:
                        found[text(strip(sub.value))] += 1
        if len(found) == 1:
            value = next(iter(found))
            if _CONSTANT.match(value) and value != '0':
                return value
        return ''

    def _asked(self) -> Iterator[str]:
        """What each caller asks of the result: negative, nonzero, zero,
        passed on (to its own callers), or something else."""
        driver = self.of.driver
        for place in driver.calls_to(self.func):
            yield self._question(place)
        fields = {root.what for root in driver.roots(self.func)
                  if root.kind == 'callback'}
        if driver.addresses_of(self.func):
            calls = [place for field in fields
                     for place in self._calls_through(field.split('.')[-1])]
            for place in calls:
                yield self._question(place)
            if not calls:
                yield 'unknown'

    def _calls_through(self, field: str) -> Iterator[Place]:
        """The driver's calls of what an ops field points to."""
        for func in self.of.driver.functions_with(field):
            for call in func.calls():
                target = strip(call.func)
                if isinstance(target, c.Member) and target.name == field:
                    yield Place(func.path, func, call)

    @staticmethod
    def _question(place: Place) -> str:
        above = parents(place.function)
        stmt = above.statement(place.node)
        if isinstance(stmt, c.Return):
            return 'passed on'
        if isinstance(stmt, c.If):
            return 'unknown' if stmt.other is not None \
                else _kind_of_test(stmt.cond, place.node)
        result = result_of(above, place.node)
        test = following(above, stmt)
        if result and isinstance(test, c.Return) and test.value is not None \
                and text(strip(test.value)) == result:
            return 'passed on'
        if result and isinstance(test, c.If) and test.other is None \
                and result in tested_names(test.cond):
            return _kind_of_test(test.cond, None)
        return 'unknown'

    def _not_owner(self) -> None:
        """Refuse if a parameter may be something that must be freed here."""
        for param in self.func.params:
            if self._callers_free(param):
                continue
            if param.type.base == 'struct sk_buff' or self._freed_by_helper(
                    param) or any(
                    re.search('free|release|destroy|put|drop', call.name)
                    and any(text(strip(x)) == param.name for x in call.args)
                    for call in self.func.calls()):
                raise Refused('it is not known who frees %s when %s() fails'
                              % (param.name, self.func.name))

    def _freed_by_helper(self, param: c.Variable) -> bool:
        """Has the driver a function that frees such an object?"""
        return any(
            re.search('free|release|destroy', func.name)
            and len(func.params) < 3 and any(
                x.name in ('kfree', 'kvfree') and len(x.args) == 1
                and text(strip(x.args[0])) in {
                    p.name for p in func.params if p.type == param.type}
                for x in func.calls())
            for func in self.of.driver.functions_with('kfree', 'kvfree'))

    def _callers_free(self, param: c.Variable) -> bool:
        """Does a caller free the argument when the function fails, or keep it
        to try again?

        One that does proves that the function must not.
        """
        index = next(i for i, p in enumerate(self.func.params) if p is param)
        return any(
            index < len(place.node.args)
            and frees_on_failure(Unwinder(self.of.driver, place.function),
                                 place.node,
                                 text(strip(place.node.args[index])))
            for place in self.of.driver.calls_to(self.func))

    def _is_count(self, value: c.Expr) -> bool:
        """Is it the number of what was done so far?"""
        value = strip(value)
        if not isinstance(value, c.Id) or value.name not in self.func.locals:
            return False
        return any(
            isinstance(x, c.Unary) and x.op in ('++', 'p++')
            and text(strip(x.arg)) == value.name
            or isinstance(x, c.Assign) and x.op == '+='
            and text(strip(x.left)) == value.name
            for x in self.func.body.walk())

    def errno(self) -> str:
        """The errno of the function's other tests of mappings."""
        found = set()
        for node in self.func.body.walk():
            if isinstance(node, c.If) and 'mapping_error' in text(node.cond):
                for sub in node.then.walk():
                    if isinstance(sub, c.Unary) and sub.op == '-' and re.match(
                            '-E[A-Z]+$', text(sub)):
                        found.add(text(sub))
        return found.pop() if len(found) == 1 else '-ENOMEM'

    def _errnos(self) -> bool:
        return any(isinstance(x, c.Unary) and x.op == '-'
                   and isinstance(x.arg, c.Id) and re.match('E[A-Z]', x.arg.name)
                   for x in self.func.body.walk())

    def _dropped(self) -> list[str]:
        if any('dropped' in w or 'tx_err' in w for w in self.func.words):
            for node in self.func.body.walk():
                if isinstance(node, c.ExprStmt) and 'dropped' in text(node.expr) \
                        and isinstance(node.expr, (c.Unary, c.Call)):
                    return [text(node.expr) + ';']
        for param in self.func.params:
            if str(param.type) == 'struct net_device *':
                return ['%s->stats.tx_dropped++;' % param.name]
        return []


def exit_behind(of: Unwinder, call: c.Call) -> Exit | None:
    """The exit that asks for the result of a call."""
    stmt = of.up.statement(call)
    test = stmt if isinstance(stmt, c.If) else following(of.up, stmt)
    return of.exit_of(test) if test is not None else None


def frees_on_failure(of: Unwinder, call: c.Call, given: str) -> bool:
    """Does a function that calls another one free what it gave when that
    fails, or return it to its own caller?"""
    stmt = of.up.statement(call)
    test = stmt if isinstance(stmt, c.If) else following(of.up, stmt)
    if not isinstance(test, c.If):
        return False
    kind = _kind_of_test(test.cond, call if test is stmt else None)
    if test is not stmt and result_of(of.up, call) not in tested_names(
            test.cond) | {text(plain(test.cond))}:
        return False
    found = of.exit_of(test)
    if found is not None:
        return any(a.key[1] == given for a in found.path.actions) \
            or retries(found.path)
    # `if (f()) { free }` and `if (n = f()) { ... } else { free }`
    for branch in (test.then, test.other):
        if branch is None or kind == 'unknown':
            continue
        for node in branch.walk():
            gone = releases(node) if isinstance(node, c.Call) else None
            if gone and gone[1] == given and gone[0] in ('skb', 'memory'):
                return True
            if isinstance(node, (c.Return, c.Assign)) and text(
                    node.value if isinstance(node, c.Return)
                    else node.right) == 'NETDEV_TX_BUSY':
                return True
    return False


def plain(cond: c.Expr) -> c.Expr:
    """A condition without what only says how likely it is."""
    cond = strip(cond)
    while isinstance(cond, c.Call) and cond.name in ('likely', 'unlikely') \
            and cond.args:
        cond = strip(cond.args[0])
    return cond


def following(up: Parents, stmt: c.Stmt) -> c.Stmt | None:
    """The statement that comes next, also behind the branches of an if."""
    node: c.Node = stmt
    for above in up.chain(stmt):
        if isinstance(above, c.Block):
            index = next(i for i, s in enumerate(above.body) if s is node)
            if index + 1 < len(above.body):
                return above.body[index + 1]
        elif not isinstance(above, c.If):
            return None
        node = above
    return None


def _kind_of_test(cond: c.Expr, call: c.Call | None) -> str:
    """What an if asks of a call's result, or of the variable that has it."""
    cond = strip(cond)
    while isinstance(cond, c.Call) and cond is not call \
            and cond.name in ('unlikely', 'likely', 'WARN_ON') and cond.args:
        cond = strip(cond.args[0])
    if isinstance(cond, c.Unary) and cond.op == '!':
        return 'zero'
    if isinstance(cond, c.Binary):
        right = text(strip(cond.right))
        if right in ('0', 'false'):
            return {'<': 'negative', '!=': 'nonzero', '==': 'zero'}.get(
                cond.op, 'unknown')
        return 'unknown'
    return 'nonzero'
