# SPDX-License-Identifier: GPL-2.0-only
"""The C parser, the control flow and the driver model behind the rules."""
from __future__ import annotations

from pathlib import Path

import pytest

from evidence import cparse as c
from evidence.clex import select, tokenize
from evidence.driver import Driver, Object, text
from evidence.flow import Graph


def parse(code: str) -> c.SourceFile:
    return c.SourceFile('test.c', code)


def function(code: str) -> c.Function:
    """The only function of a piece of code; it must parse."""
    func, = parse(code).functions.values()
    assert func.body is not None, func.error
    return func


def expression(code: str) -> c.Expr:
    stmt = function('void f(void) { %s; }' % code).body.body[0]
    assert isinstance(stmt, c.ExprStmt)
    return stmt.expr


def test_positions_are_those_of_spatch() -> None:
    tokens = tokenize('/* a\n b */ int x;\n\tfoo(virt_to_bus(p));\n')
    at = {t.text: (t.line, t.column) for t in tokens}
    assert at['int'] == (2, 6)
    assert at['virt_to_bus'] == (3, 5)


def test_lines_go_on_behind_a_string_of_several() -> None:
    tokens = tokenize('printk("one \\\n two", x);\nfoo(y);\n')
    at = {t.text: (t.line, t.column) for t in tokens}
    assert at['x'] == (2, 7)
    assert at['foo'] == (3, 0)


def test_latin1_and_strings_keep_offsets() -> None:
    source = parse('char *s = "\xe9 /* no comment */"; int f(void) { return 1; }')
    func = source.functions['f']
    assert source.text[func.name_token.start] == 'f'


@pytest.mark.parametrize('condition, kept', [
    ('#if 0', ['b']), ('#if 1', ['a']), ('#ifdef X', ['a', 'b'])])
def test_conditional_whole_statements(condition: str, kept: list[str]) -> None:
    func = function('void f(void) {\n%s\n\ta();\n#else\n\tb();\n#endif\n}'
                    % condition)
    assert [call.name for call in func.calls()] == kept


def test_cut_conditionals_agree_with_each_other() -> None:
    func = function('void f(void) {\n#ifndef A\n\twhile (x) {\n#endif\n\ta();\n'
                    '#ifdef A\n\tb();\n#else\n\t}\n#endif\n}')
    assert func.split
    assert isinstance(func.body.body[0], c.Loop)


def test_dead_code_is_kept_apart() -> None:
    chosen = select(tokenize('#if 0\nvirt_to_bus(p);\n#endif\nx;'))
    assert 'virt_to_bus' in [t.text for t in chosen.dead]
    assert 'virt_to_bus' not in [t.text for t in chosen.tokens]


@pytest.mark.parametrize('code, kind', [
    ('a = (u32)b', c.Cast), ('a = (struct x *)b', c.Cast),
    ('a = (foo_t *)&b', c.Cast), ('a = (b)', c.Paren),
    ('a = (b) + c', c.Binary), ('a = (dma_addr_t)(b)', c.Cast),
    ('a = sizeof(struct x)', c.Sizeof), ('a = b ? c : d', c.Ternary),
    ('a = b ?: d', c.Ternary), ('a = b->c[3].d', c.Member),
    ('a = ({ int z = 1; z; })', c.StmtExpr)])
def test_expressions(code: str, kind: type) -> None:
    expr = expression(code)
    assert isinstance(expr, c.Assign) and isinstance(expr.right, kind)


def test_type_arguments_of_macros() -> None:
    call = expression('p = kmalloc_objs(struct cmd, n)').right
    assert isinstance(call.args[0], c.TypeArg)
    assert call.args[0].type.base == 'struct cmd'
    call = expression('a = set(dev, DMA_BIT_MASK(24))').right
    assert isinstance(call.args[1], c.Call)


def test_statements_of_kernel_macros() -> None:
    func = function('''
int f(struct list_head *h)
{
	struct foo *p __free(kfree) = NULL;
	u8 *a, **b, c[16];

	guard(mutex)(&lock);
	scoped_guard(spinlock, &l) {
		a = b[0];
	}
	list_for_each_entry(i, h, list)
		++n;
	MACRO_WITHOUT_SEMICOLON(x)
	return 0;
}''')
    assert str(func.locals['b'].type) == 'u8 **'
    assert func.locals['c'].type.dims == ('16',)
    loops = [n for n in func.body.walk() if isinstance(n, c.Loop)]
    assert [loop.kind for loop in loops] == ['macro']


def test_a_body_that_cannot_be_parsed_says_so() -> None:
    source = parse('int f(void) { if (x { y; }\n}\nint g(void) { return 0; }')
    assert source.functions['f'].body is None
    assert source.functions['f'].error
    assert source.functions['g'].body is not None


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    source = parse('int f(void) { return %s1%s; }' % ('(' * 5000, ')' * 5000))
    assert source.functions['f'].body is None


def test_struct_fields_of_anonymous_members() -> None:
    source = parse('struct s { int a; union { u32 b; struct { u8 *c; }; }; '
                   'struct { dma_addr_t d; } rx; } __packed;')
    fields = source.structs['struct s'].fields
    assert {'a', 'b', 'c', 'rx'} <= fields.keys()
    assert str(source.structs[fields['rx'].type.base].fields['d'].type) \
        == 'dma_addr_t'


def test_goto_loop_and_switch_edges() -> None:
    func = function('''
int f(int n)
{
	for (;;) {
		if (n)
			break;
		if (g())
			goto out;
	}
	switch (n) {
	case 1:
		a();
		fallthrough;
	default:
		b();
	}
	return 0;
out:
	return -1;
}''')
    graph = Graph(func)
    assert not graph.incomplete
    step = graph.labels['out']
    assert {s.kind for s in graph.reachable([step])} == {'label', 'return', 'exit'}
    first, = [s for s in graph.steps if any(k.name == 'a' for k in s.calls())]
    after = graph.reachable([first])
    assert any(k.name == 'b' for s in after for k in s.calls())


def test_dominators() -> None:
    func = function('void f(int n) { a(); if (n) b(); d(); }')
    graph = Graph(func)
    step = {k.name: s for s in graph.steps for k in s.calls()}
    dom = graph.dominators()[id(step['d'])]
    assert id(step['a']) in dom and id(step['b']) not in dom


def make_driver(tmp_path: Path, **files: str) -> Driver:
    paths = []
    for name, code in files.items():
        path = tmp_path / name.replace('_h', '.h').replace('_c', '.c')
        path.write_text(code, encoding='utf-8')
        paths.append(str(path))
    return Driver(paths)


def test_objects_across_files(tmp_path: Path) -> None:
    driver = make_driver(
        tmp_path, foo_h='typedef struct foo { u32 *ring; } foo_t;',
        main_c='void f(foo_t *p) { u32 *q; q = p->ring; }')
    func = driver.definitions('f')[0]
    assign, = [n for n in func.body.walk() if isinstance(n, c.Assign)]
    assert driver.object_of(assign.right, func) == Object(
        'field', 'struct foo', 'ring')
    assert driver.object_of(assign.left, func) == Object('local', 'f', 'q')


DRIVER = '''
static void helper(struct foo *p) { alloc(p); }
static int foo_probe(struct pci_dev *pdev) { helper(p); return 0; }
static void foo_remove(struct pci_dev *pdev) { release(p); }
static int foo_open(struct inode *i, struct file *f) { both(p); return 0; }
static void both(struct foo *p) { }
static void lonely(struct foo *p) { }
int visible(struct foo *p) { return 0; }
static irqreturn_t foo_irq(int irq, void *p) { return IRQ_HANDLED; }
static int foo_init(void) { request_irq(1, foo_irq, 0, "x", p); return 0; }
static const struct file_operations fops = { .open = foo_open };
static struct pci_driver foo_driver = {
	.probe = foo_probe,
	.remove = foo_remove,
};
module_init(foo_init);
'''


@pytest.mark.parametrize('name, kinds', [
    ('helper', {'probe'}), ('foo_remove', {'remove'}), ('both', {'callback'}),
    ('lonely', {'unknown'}), ('visible', {'unknown'}), ('foo_irq', {'callback'}),
    ('foo_init', {'init'})])
def test_roots(tmp_path: Path, name: str, kinds: set[str]) -> None:
    driver = make_driver(tmp_path, foo_c=DRIVER)
    assert {r.kind for r in driver.roots(driver.definitions(name)[0])} == kinds


def test_canonical_text() -> None:
    assert text(expression('x = (u32)((*p).a) + (b + c)')) == 'x = p->a + (b + c)'
