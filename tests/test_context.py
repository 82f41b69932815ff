# SPDX-License-Identifier: GPL-2.0-only
"""In what context code runs, and the GFP flags that follow from it.

Each idiom stands here twice: where GFP_KERNEL is proven, and with the one
change that takes the proof away.
"""
from __future__ import annotations

from pathlib import Path

import pytest

from evidence import gfp
from evidence.context import Context
from evidence.driver import Driver

ALLOC = 'p->ring = dma_alloc_coherent(p->dev, SIZE, &p->dma, FLAGS);'
PCI = '''
static int foo_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	%s
	return 0;
}
static struct pci_driver foo_driver = { .probe = foo_probe };
MODULE_LICENSE("GPL");
'''


def driver_of(code: str, **headers: str) -> Driver:
    texts = {'/nowhere/foo.c': code.replace('ALLOC', ALLOC)}
    texts.update({'/nowhere/%s.h' % name: text
                  for name, text in headers.items()})
    return Driver(list(texts), texts)


def decided(code: str, **headers: str) -> gfp.Gfp:
    """The decision for the one dma_alloc_coherent() of a driver."""
    driver = driver_of(code, **headers)
    (func, call), = [(f, k) for f in driver.functions_with(
        'dma_alloc_coherent') for k in f.calls()
                     if k.name == 'dma_alloc_coherent']
    return gfp.decide(driver, func, call)


def flag(code: str, **headers: str) -> str:
    said = decided(code, **headers)
    assert bool(said.message) == (said.flag != 'GFP_KERNEL')
    assert said.evidence
    return said.flag


# ------------------------------------------------------------------- the roots

WORK = 'static void foo_fn(struct work_struct *w) { ALLOC }\n' \
    'static void foo_set(struct foo *p) { %s }\n'
FIELD = 'static int foo_fn(struct foo *p) { ALLOC return 0; }\n' \
    'static %s foo_ops = { .%s = foo_fn };\n'


@pytest.mark.parametrize('struct, field', [
    ('struct pci_driver', 'probe'), ('struct pci_driver', 'remove'),
    ('struct platform_driver', 'remove'), ('struct pci_driver', 'suspend'),
    ('struct dev_pm_ops', 'resume'), ('const struct file_operations', 'open'),
    ('struct file_operations', 'unlocked_ioctl'),
    ('struct net_device_ops', 'ndo_open'),
    ('struct net_device_ops', 'ndo_stop'),
    ('struct device_attribute', 'show'), ('struct snd_pcm_ops', 'hw_params'),
    ('struct v4l2_ioctl_ops', 'vidioc_reqbufs')])
def test_fields_in_process_context(struct: str, field: str) -> None:
    assert flag(FIELD % (struct, field)) == 'GFP_KERNEL'


@pytest.mark.parametrize('struct, field', [
    ('struct net_device_ops', 'ndo_start_xmit'),
    ('struct net_device_ops', 'ndo_set_rx_mode'),
    ('struct net_device_ops', 'ndo_tx_timeout'),
    ('struct net_device_ops', 'ndo_poll_controller'),
    ('struct scsi_host_template', 'queuecommand'),
    ('struct scsi_host_template', 'eh_abort_handler'),
    ('struct usb_driver', 'pre_reset'), ('struct dev_pm_ops', 'resume_noirq'),
    ('struct kernel_param_ops', 'set'), ('struct snd_pcm_ops', 'trigger'),
    ('struct notifier_block', 'notifier_call'),
    ('struct usb_gadget_driver', 'disconnect'), ('struct console', 'write'),
    ('struct kmsg_dumper', 'dump'), ('struct unheard_of', 'open')])
def test_other_fields_prove_nothing(struct: str, field: str) -> None:
    assert flag(FIELD % (struct, field)) == 'GFP_ATOMIC'


@pytest.mark.parametrize('call', [
    'INIT_WORK(&p->work, foo_fn);', 'INIT_DELAYED_WORK(&p->work, foo_fn);',
    'p->task = kthread_run(foo_fn, p, "foo");',
    'request_threaded_irq(irq, NULL, foo_fn, 0, "foo", p);'])
def test_registered_for_process_context(call: str) -> None:
    assert flag(WORK % call) == 'GFP_KERNEL'


@pytest.mark.parametrize('call', [
    'request_irq(irq, foo_fn, 0, "foo", p);',
    'request_threaded_irq(irq, foo_fn, NULL, 0, "foo", p);',
    'tasklet_init(&p->tasklet, foo_fn, 0);',
    'timer_setup(&p->timer, foo_fn, 0);', 'call_rcu(&p->rcu, foo_fn);',
    'netif_napi_add(dev, &p->napi, foo_fn);',
    'usb_fill_bulk_urb(urb, u, pipe, buf, len, foo_fn, p);',
    'register_reboot_notifier(foo_fn);', 'who_knows(foo_fn);',
    'table[0] = foo_fn;', 'p->callback = foo_fn;', 'local = x ? foo_fn : y;',
    'INIT_WORK(&p->work, foo_fn); queue_work(system_bh_wq, &p->work);',
    'INIT_WORK(&p->work, foo_fn); timer_setup(&p->timer, foo_fn, 0);'])
def test_registered_for_another_context(call: str) -> None:
    assert flag(WORK % call) == 'GFP_ATOMIC'


@pytest.mark.parametrize('line, expected', [
    ('module_init(foo_fn);', 'GFP_KERNEL'), ('module_exit(foo_fn);', 'GFP_KERNEL'),
    ('static DECLARE_WORK(work, foo_fn);', 'GFP_KERNEL'),
    ('static SIMPLE_DEV_PM_OPS(pm, foo_fn, other);', 'GFP_KERNEL'),
    ('static DECLARE_TASKLET(task, foo_fn, 0);', 'GFP_ATOMIC'),
    ('static DEFINE_TIMER(timer, foo_fn);', 'GFP_ATOMIC'),
    ('module_init(foo_fn); EXPORT_SYMBOL_GPL(foo_fn);', 'GFP_ATOMIC'),
    ('__setup("foo", foo_fn);', 'GFP_ATOMIC'), ('', 'GFP_ATOMIC'),
    ('void (*table[])(void) = { foo_fn };', 'GFP_ATOMIC'),
    ('#define HOOK foo_fn\nmodule_init(foo_fn);', 'GFP_ATOMIC')])
def test_toplevel(line: str, expected: str) -> None:
    assert flag('static int foo_fn(void) { ALLOC return 0; }\n'
                + line + '\n') == expected


def test_attribute_macro_builds_the_name() -> None:
    code = 'static ssize_t foo_show(struct device *d) { ALLOC return 0; }\n'
    assert flag(code + 'static DEVICE_ATTR_RO(foo);\n') == 'GFP_KERNEL'
    assert flag(code + 'static DEVICE_ATTR_RO(bar);\n') == 'GFP_ATOMIC'


def test_runtime_suspend_may_run_with_interrupts_off() -> None:
    code = FIELD % ('struct dev_pm_ops', 'runtime_suspend')
    assert flag(code) == 'GFP_KERNEL'
    assert flag(code + 'void g(void) { pm_runtime_irq_safe(dev); }') \
        == 'GFP_ATOMIC'


def test_a_pasted_name_is_one_more_way_in() -> None:
    code = PCI % 'foo_fn(p);' + 'static void foo_fn(struct foo *p) { ALLOC }\n'
    macro = '#define TIMER(x) timer_setup(&t, foo_##x, 0)\n'
    assert flag(macro + code) == 'GFP_KERNEL'
    assert flag(macro + code + 'static void g(void) { TIMER(fn); }') \
        == 'GFP_ATOMIC'


# -------------------------------------------------------- the driver's own ops

OPS = '''
struct foo_ops { void (*fill)(struct foo *p); };
static void foo_fill(struct foo *p) { ALLOC }
static const struct foo_ops ops = { .fill = foo_fill };
'''


@pytest.mark.parametrize('use, expected', [
    ('p->ops->fill(p);', 'GFP_KERNEL'),
    ('if (p->ops->fill) p->ops->fill(p);', 'GFP_KERNEL'),
    ('spin_lock(&p->lock); p->ops->fill(p); spin_unlock(&p->lock);',
     'GFP_ATOMIC'),
    ('setup_timer(&p->timer, p->ops->fill, 0);', 'GFP_ATOMIC'),
    ('fn = p->ops->fill;', 'GFP_ATOMIC'), ('', 'GFP_ATOMIC')])
def test_own_ops(use: str, expected: str) -> None:
    assert flag(OPS + PCI % use) == expected


def test_own_ops_also_called_by_an_interrupt() -> None:
    handler = 'static int foo_irq(int irq, void *d) { p->ops->fill(p); }\n'
    code = OPS + PCI % 'p->ops->fill(p); request_irq(i, foo_irq, 0, n, p);'
    assert flag(code.replace('request_irq(i, foo_irq, 0, n, p);', '')) \
        == 'GFP_KERNEL'
    assert flag(code + handler) == 'GFP_ATOMIC'


def test_helper_that_registers_or_calls() -> None:
    code = 'static void foo_fn(struct work_struct *w) { ALLOC }\n' \
        'static void later(struct foo *p, work_func_t fn) { %s }\n' \
        + PCI % 'later(p, foo_fn);'
    for body, expected in (('INIT_WORK(&p->work, fn);', 'GFP_KERNEL'),
                           ('fn(&p->work);', 'GFP_KERNEL'),
                           ('timer_setup(&p->t, fn, 0);', 'GFP_ATOMIC'),
                           ('p->fn = fn;', 'GFP_ATOMIC'),
                           ('spin_lock(&l); fn(&p->work); spin_unlock(&l);',
                            'GFP_ATOMIC')):
        assert flag(code.replace('%s', body)) == expected, body


# --------------------------------------------------------------- lock regions

@pytest.mark.parametrize('take, drop', [
    ('spin_lock(&p->lock);', 'spin_unlock(&p->lock);'),
    ('spin_lock_irqsave(&p->lock, flags);',
     'spin_unlock_irqrestore(&p->lock, flags);'),
    ('raw_spin_lock_irq(&p->lock);', 'raw_spin_unlock_irq(&p->lock);'),
    ('read_lock_bh(&p->lock);', 'read_unlock_bh(&p->lock);'),
    ('write_lock(&p->lock);', 'write_unlock(&p->lock);'),
    ('rcu_read_lock();', 'rcu_read_unlock();'),
    ('preempt_disable();', 'preempt_enable();'),
    ('local_irq_save(flags);', 'local_irq_restore(flags);'),
    ('local_bh_disable();', 'local_bh_enable();'),
    ('bit_spin_lock(1, &p->bits);', 'bit_spin_unlock(1, &p->bits);'),
    ('cpu = get_cpu();', 'put_cpu();'),
    ('a = kmap_atomic(page);', 'kunmap_atomic(a);'),
    ('netif_addr_lock_bh(dev);', 'netif_addr_unlock_bh(dev);'),
    ('vendor_spin_lock(p);', 'vendor_spin_unlock(p);'),
    ('p->ops.lock(p);', 'p->ops.unlock(p);'),
    ('if (id) spin_lock(&p->lock);', 'if (id) spin_unlock(&p->lock);'),
    ('spin_lock_irq(&p->lock); spin_unlock(&p->lock);', 'local_irq_enable();'),
    ('spin_lock(&a->lock); spin_lock(&b->lock); spin_unlock(&b->lock);',
     'spin_unlock(&a->lock);')])
def test_locks(take: str, drop: str) -> None:
    assert flag(PCI % (take + ' ALLOC ' + drop)) == 'GFP_ATOMIC'
    assert flag(PCI % (take + ' x = 1; ' + drop + ' ALLOC')) == 'GFP_KERNEL'
    inner = 'static void foo_fn(struct foo *p) { ALLOC }\n'
    assert flag(inner + PCI % (take + ' foo_fn(p); ' + drop)) == 'GFP_ATOMIC'
    assert flag(inner + PCI % (take + drop + ' foo_fn(p);')) == 'GFP_KERNEL'


@pytest.mark.parametrize('code, expected', [
    ('mutex_lock(&p->lock); ALLOC mutex_unlock(&p->lock);', 'GFP_KERNEL'),
    ('spin_lock_init(&p->lock); ALLOC', 'GFP_KERNEL'),
    ('guard(mutex)(&p->lock); ALLOC', 'GFP_KERNEL'),
    ('guard(spinlock)(&p->lock); ALLOC', 'GFP_ATOMIC'),
    ('guard(spinlock_irqsave)(&p->lock); ALLOC', 'GFP_ATOMIC'),
    ('guard(rcu)(); ALLOC', 'GFP_ATOMIC'),
    ('{ guard(spinlock)(&p->lock); x = 1; } ALLOC', 'GFP_KERNEL'),
    ('scoped_guard(spinlock, &p->lock) { ALLOC }', 'GFP_ATOMIC'),
    ('scoped_guard(spinlock, &p->lock) { x = 1; } ALLOC', 'GFP_KERNEL'),
    ('if (y) spin_lock(&p->lock); ALLOC', 'GFP_ATOMIC'),
    ('if (y) { spin_lock(&p->lock); } y = 0; if (y) { '
     'spin_unlock(&p->lock); } ALLOC', 'GFP_ATOMIC'),
    ('spin_lock(&p->lock); if (y) spin_unlock(&p->lock); ALLOC',
     'GFP_ATOMIC'),
    ('spin_lock(&p->lock); if (y) { spin_unlock(&p->lock); ALLOC return 0; } '
     'spin_unlock(&p->lock);', 'GFP_KERNEL'),
    ('while (n--) { ALLOC spin_lock(&p->lock); }', 'GFP_ATOMIC'),
    ('while (n--) { ALLOC spin_lock(&p->lock); spin_unlock(&p->lock); }',
     'GFP_KERNEL'),
    ('for (i = 0; i < 4; i++) spin_lock(&p->q[i].lock); ALLOC', 'GFP_ATOMIC'),
    ('x = 1;\n#ifdef CONFIG_FOO\nspin_lock(&p->lock);\n#endif\nALLOC',
     'GFP_ATOMIC'),
    ('x = 1;\n#ifdef CONFIG_FOO\nspin_lock(&p->lock);\n#endif\nx = 2;\n'
     '#ifdef CONFIG_FOO\nspin_unlock(&p->lock);\n#endif\nALLOC',
     'GFP_KERNEL'),
    ('spin_lock(&p->lock);\n#ifdef CONFIG_FOO\nspin_unlock(&p->lock);\n'
     '#endif\nALLOC', 'GFP_ATOMIC'),
    ('wait_event_lock_irq(p->wq, (p->x = dma_alloc_coherent(d, 1, &h, F)), '
     'p->lock);', 'GFP_ATOMIC')])
def test_lock_regions(code: str, expected: str) -> None:
    declared = 'int i, n = 4; bool y = p->y; '
    assert flag(PCI % (declared + code)) == expected


HELPERS = '''
#define FOO_LOCK(p, f) do { spin_lock_irqsave(&(p)->lock, f); } while (0)
#define FOO_UNLOCK(p, f) spin_unlock_irqrestore(&(p)->lock, f)
#define ENTER(p) foo_take(p)
static void foo_take(struct foo *p) { spin_lock(&p->lock); }
static void foo_give(struct foo *p) { spin_unlock(&p->lock); }
'''


@pytest.mark.parametrize('take, drop', [
    ('FOO_LOCK(p, f);', 'FOO_UNLOCK(p, f);'),
    ('foo_take(p);', 'foo_give(p);'), ('ENTER(p);', 'foo_give(p);'),
    ('foo_take(p);', 'spin_unlock(&p->lock);')])
@pytest.mark.parametrize('where', ['file', 'header'])
def test_lock_helpers(take: str, drop: str, where: str) -> None:
    here, headers = (HELPERS, {}) if where == 'file' else (
        '', {'foo': HELPERS})
    assert flag(here + PCI % (take + ' ALLOC ' + drop), **headers) \
        == 'GFP_ATOMIC'
    assert flag(here + PCI % (take + ' x = 1; ' + drop + ' ALLOC'),
                **headers) == 'GFP_KERNEL'


@pytest.mark.parametrize('body, expected', [
    ('spin_unlock(&p->lock); ALLOC spin_lock(&p->lock);', 'GFP_KERNEL'),
    ('spin_unlock(&p->other); ALLOC spin_lock(&p->other);', 'GFP_ATOMIC'),
    ('if (x) spin_unlock(&p->lock); ALLOC', 'GFP_ATOMIC'),
    ('spin_unlock(&p->lock); spin_lock(&p->lock); ALLOC', 'GFP_ATOMIC'),
    ('ALLOC', 'GFP_ATOMIC')])
def test_callee_opens_the_lock_around_it(body: str, expected: str) -> None:
    code = 'static void foo_fn(struct foo *p) { %s }\n' % body
    assert flag(code + PCI % 'spin_lock(&p->lock); foo_fn(p); '
                'spin_unlock(&p->lock);') == expected


@pytest.mark.parametrize('body, expected', [
    ('if (held) { x(p); goto out; } spin_lock(&p->l); x(p); '
     'out: if (!held) spin_unlock(&p->l);', 'GFP_KERNEL'),
    ('if (!held) return; spin_lock(&p->l); x(p); '
     'if (held) spin_unlock(&p->l);', 'GFP_KERNEL'),
    ('if (held) { x(p); goto out; } spin_lock(&p->l); x(p); '
     'out: if (held) spin_unlock(&p->l);', 'GFP_ATOMIC'),
    ('if (held) x(p); spin_lock(&p->l); '
     'if (!held) spin_unlock(&p->l);', 'GFP_ATOMIC'),
    ('if (held) goto out; in: spin_lock(&p->l); '
     'out: if (!held) spin_unlock(&p->l); else goto in;', 'GFP_ATOMIC'),
    ('if (held) goto out; held = x(p); spin_lock(&p->l); '
     'out: if (!held) spin_unlock(&p->l);', 'GFP_ATOMIC'),
    # opens the lock of its caller and takes it again, on some paths
    ('if (held) return; spin_unlock(&p->l); x(p); spin_lock(&p->l);',
     'GFP_KERNEL'),
    ('if (held) return; spin_lock(&p->l); x(p);', 'GFP_ATOMIC')])
def test_locks_under_conditions(body: str, expected: str) -> None:
    code = 'static void foo_fn(struct foo *p, int held) { %s }\n' % body
    assert flag(code + PCI % 'foo_fn(p, y); ALLOC') == expected


def test_what_the_callee_opens_is_not_all_that_is_held() -> None:
    code = 'static void foo_fn(struct foo *p) { spin_unlock(&p->lock); ALLOC ' \
        'spin_lock(&p->lock); }\n'
    assert flag(code + PCI % 'rcu_read_lock(); spin_lock(&p->lock); '
                'foo_fn(p); spin_unlock(&p->lock);') == 'GFP_ATOMIC'
    assert flag(code + PCI % 'spin_lock_irq(&p->lock); foo_fn(p); '
                'spin_unlock_irq(&p->lock);') == 'GFP_ATOMIC'


# ------------------------------------------------------- what has slept before

UNKNOWN = 'void foo_fn(struct foo *p) { %s }\nEXPORT_SYMBOL(foo_fn);\n'


@pytest.mark.parametrize('before', [
    'q = kmalloc(4, GFP_KERNEL);', 'mutex_lock(&p->m);', 'msleep(1);',
    'if (copy_from_user(a, b, 4)) return;', 'usleep_range(1, 2);',
    'if (request_irq(i, h, 0, n, p)) goto out;', 'might_sleep();',
    'wait_event(p->wq, p->x);', 'kthread_stop(p->t);', 'flush_work(&p->w);',
    'do { msleep(1); } while (x);', 'sleeper(p);', 'if (tries(p)) return;',
    'err = tries(p); if (err) goto out;'])
def test_sleeping_evidence(before: str) -> None:
    helpers = 'static void sleeper(struct foo *p) { if (x) y(); msleep(1); }\n' \
        'static int tries(struct foo *p) { if (x) return -EIO; msleep(1); ' \
        'return 0; }\n'
    code = helpers + UNKNOWN
    assert flag(code % (before + ' ALLOC out: return;')) == 'GFP_KERNEL'
    assert flag(code % ('ALLOC out: return; ' + before)) == 'GFP_ATOMIC'
    assert flag(code % ('if (p->x) { %s } ALLOC out: return;' % before)) \
        == 'GFP_ATOMIC'
    assert flag(code % (before + ' spin_lock(&p->lock); ALLOC '
                        'spin_unlock(&p->lock); out: return;')) == 'GFP_ATOMIC'


@pytest.mark.parametrize('before', [
    'q = kmalloc(4, GFP_ATOMIC);', 'q = kmalloc(4, x ? GFP_KERNEL : gfp);',
    'x && mutex_lock(&p->m);', 'udelay(1);', 'p->gfp = GFP_KERNEL;',
    'spin_unlock(&p->l); msleep(1); spin_lock(&p->l);', 'tries(p);',
    'while (x) msleep(1);', 'mapping_set_gfp_mask(m, GFP_KERNEL);',
    'sometimes(p);', 'mutex_trylock(&p->m);'])
def test_no_evidence(before: str) -> None:
    helpers = 'static int tries(struct foo *p) { if (x) return -EIO; ' \
        'msleep(1); return 0; }\n' \
        'static void sometimes(struct foo *p) { if (x) msleep(1); }\n'
    assert flag(helpers + UNKNOWN % (before + ' ALLOC')) == 'GFP_ATOMIC'


def test_flags_that_are_asked_for_are_no_evidence() -> None:
    driver = driver_of(UNKNOWN % 'q = dma_alloc_coherent(d, 1, &h, GFP_KERNEL);'
                       ' ALLOC')
    func, = driver.definitions('foo_fn')
    last = list(func.calls())[-1]
    assert Context(driver).may_sleep(func, last).sleeps
    hidden = Context(driver, frozenset(('dma_alloc_coherent',)))
    assert not hidden.may_sleep(func, last).sleeps


# ------------------------------------------------------ callers who say whether

def test_gfp_parameter_is_passed_through() -> None:
    code = 'int foo_fn(struct foo *p, gfp_t gfp) { %s }\nEXPORT_SYMBOL(foo_fn);\n'
    assert flag(code % 'ALLOC') == 'gfp'
    assert flag(code % 'spin_lock(&p->l); ALLOC spin_unlock(&p->l);') \
        == 'GFP_ATOMIC'
    assert flag(code % 'gfp |= __GFP_ZERO; ALLOC') == 'GFP_ATOMIC'
    assert flag(code % 'set(&gfp); ALLOC') == 'GFP_ATOMIC'
    assert flag(code % 'if (p) { gfp_t gfp = 0; ALLOC }') == 'GFP_ATOMIC'


@pytest.mark.parametrize('param', ['int sleepFlag', 'bool can_sleep',
                                   'gfp_t mask', 'bool atomic'])
def test_callers_with_a_flag(param: str) -> None:
    code = 'static void foo_fn(struct foo *p) { ALLOC }\n' \
        'static void foo_do(struct foo *p, %s) { %s foo_fn(p); }\n' \
        + PCI % 'foo_do(p, 1);'
    assert flag(code.replace('%s', param, 1).replace('%s', '')) == 'GFP_ATOMIC'
    assert flag(code.replace('%s', param, 1).replace('%s', 'msleep(1);')) \
        == 'GFP_KERNEL'


# -------------------------------------------------------------- the call graph

def test_every_caller_counts() -> None:
    code = 'static void foo_fn(struct foo *p) { ALLOC }\n' \
        'static int foo_irq(int irq, void *d) { %s }\n' \
        + PCI % 'foo_fn(p); request_irq(i, foo_irq, 0, n, p);'
    assert flag(code.replace('%s', 'foo_fn(d);')) == 'GFP_ATOMIC'
    assert flag(code.replace('%s', 'return 0;')) == 'GFP_KERNEL'


def test_recursion_ends() -> None:
    code = 'static void a(struct foo *p) { ALLOC b(p); }\n' \
        'static void b(struct foo *p) { %s a(p); }\n' + PCI % 'a(p);'
    assert flag(code.replace('%s', '')) == 'GFP_KERNEL'
    assert flag(code.replace('%s', 'rcu_read_lock();')) == 'GFP_ATOMIC'
    lonely = 'static void a(struct foo *p) { ALLOC a(p); }\n'
    assert flag(lonely) == 'GFP_ATOMIC'
    circle = 'static void a(struct foo *p) { ALLOC b(p); }\n' \
        'static void b(struct foo *p) { a(p); }\n'
    assert flag(circle) == 'GFP_ATOMIC'


def test_what_cannot_be_parsed_is_unknown() -> None:
    code = 'static void foo_fn(struct foo *p) { ALLOC }\n' + PCI % 'foo_fn(p);'
    assert flag(code) == 'GFP_KERNEL'
    assert flag(code + 'static void x(void) { if (a { foo_fn(p); } }\n') \
        == 'GFP_ATOMIC'


def test_a_branch_that_was_not_looked_at() -> None:
    code = 'static void foo_fn(struct foo *p) { ALLOC }\n' + PCI % 'foo_fn(p);'
    cut = 'static void x(void) {\n#ifdef A\n\tif (a)\n\t\tb();\n\telse\n#else\n' \
        '\tif (%s)\n#endif\n\t\tc();\n}\n'
    assert flag(code + cut % 'd()') == 'GFP_KERNEL'
    assert flag(code + cut % 'foo_fn(p)') == 'GFP_ATOMIC'


def test_global_function_of_code_that_is_no_module() -> None:
    code = 'void foo_fn(struct foo *p) { ALLOC }\n' + PCI % 'foo_fn(p);'
    assert flag(code) == 'GFP_KERNEL'
    assert flag(code.replace('MODULE_LICENSE("GPL");', '')) == 'GFP_ATOMIC'


def test_file_operation_under_a_lock_is_no_proof() -> None:
    """hpilo: open() looked like process context, and held a spinlock."""
    code = '''
static int ilo_ccb_setup(struct ilo_hwinfo *hw, struct ccb_data *data)
{
	data->dma_va = dma_alloc_coherent(&hw->ilo_dev->dev, SIZE, &pa, FLAGS);
	return data->dma_va ? 0 : -ENOMEM;
}
static int ilo_open(struct inode *ip, struct file *fp)
{
	spin_lock(&hw->open_lock);
	%s
	error = ilo_ccb_setup(hw, data);
	%s
}
static const struct file_operations ilo_fops = { .open = ilo_open };
'''
    held = decided(code % ('', 'spin_unlock(&hw->open_lock);'))
    assert held.flag == 'GFP_ATOMIC'
    assert held.message == 'spin_lock() is in force at a call that leads here ' \
        'in ilo_open() (foo.c:9)'
    assert flag(code % ('spin_unlock(&hw->open_lock);', '')) == 'GFP_KERNEL'


def test_the_proof_can_be_read() -> None:
    said = decided('static void foo_fn(struct foo *p)\n{\n\tALLOC\n}\n'
                   + PCI % 'foo_fn(p);')
    assert [(s.line, s.message) for s in said.evidence] == [
        (11, 'foo_probe() is the probe of struct pci_driver'),
        (8, 'foo_probe() calls foo_fn() with no lock held')]


# --------------------------------------------------------- certainly not asleep

@pytest.mark.parametrize('code, certain', [
    (PCI % 'spin_lock(&p->lock); ALLOC spin_unlock(&p->lock);', True),
    (PCI % 'if (x) spin_lock(&p->lock); ALLOC', False),
    (PCI % 'vendor_spin_lock(p); ALLOC', False),
    (PCI % 'ALLOC', False),
    (WORK % 'request_irq(irq, foo_fn, 0, "foo", p);', True),
    (WORK % 'who_knows(foo_fn);', False),
    (FIELD % ('struct net_device_ops', 'ndo_start_xmit'), True),
    (FIELD % ('struct scsi_host_template', 'eh_abort_handler'), False)])
def test_certainly_atomic(code: str, certain: bool) -> None:
    driver = driver_of(code)
    (func, call), = [(f, k) for f in driver.functions_with(
        'dma_alloc_coherent') for k in f.calls()
                     if k.name == 'dma_alloc_coherent']
    assert bool(Context(driver).must_not_sleep(func, call)) == certain


@pytest.mark.parametrize('calls, certain', [(3, True), (4, False)])
def test_long_chains_are_not_certain(calls: int, certain: bool) -> None:
    code = 'static void f0(struct foo *p) { ALLOC }\n' + ''.join(
        'static void f%d(struct foo *p) { f%d(p); }\n' % (n, n - 1)
        for n in range(1, calls + 1)) + PCI % (
            'request_irq(i, f%d, 0, n, p);' % calls)
    driver = driver_of(code)
    func, = driver.definitions('f0')
    call, = func.calls()
    assert bool(Context(driver).must_not_sleep(func, call)) == certain


def test_a_driver_of_many_functions_forgets_no_lock() -> None:
    """What is known of a function must outlive the graphs of others."""
    many = ''.join('static void f%d(struct foo *p) { spin_lock(&p->l); g%d(p); '
                   'spin_unlock(&p->l); }\n' % (n, n) for n in range(600))
    driver = driver_of(BASE + PCI % 'spin_lock(&p->l); foo_fn(p); '
                       'spin_unlock(&p->l);' + many)
    known = Context(driver)
    func, = driver.definitions('foo_fn')
    call, = func.calls()
    assert not known.may_sleep(func, call).sleeps
    for n in range(600):
        other, = driver.definitions('f%d' % n)
        assert known.locks.at(other, list(other.calls())[1]).held
    assert not known.may_sleep(func, call).sleeps


# ----------------------------------------- what has been tried to break a proof

BASE = 'struct ent { int id; void (*fn)(struct foo *); };\n' \
    'static void foo_fn(struct foo *p) { ALLOC }\n'
IRQ = 'static int irq(int i, void *d) { %s }\n' \
    'static void g(void) { request_irq(1, irq, 0, n, p); }\n'


@pytest.mark.parametrize('harm', [
    'static void (*handlers[])(struct foo *) = { foo_fn };',
    'static void (*handlers[2])(struct foo *) = { [0] = foo_fn };',
    'static struct ent tab[] = { { 1, foo_fn }, };',
    'static struct ent tab[] = { { .id = 1, .fn = foo_fn }, };\n'
    + IRQ % 'tab[0].fn(d);',
    'static struct ent tab = { .fn = foo_fn };\n' + IRQ % 'x->y->fn(d);',
    'DECLARE_TASKLET(t, foo_fn, 0);',
    'static struct irqaction a = { .handler = foo_fn };',
    '#define REG(f) setup_timer(&t, f, 0)\nvoid g(void) { REG(foo_fn); }',
    '#define DO(p) do { spin_lock(&(p)->l); foo_fn(p); } while (0)\n'
    'static void g(void) { DO(p); }',
    '#define DO(p) foo_fn(p)\n' + IRQ % 'DO(d);',
    '#define IN(p) foo_fn(p)\n#define OUT(p) IN(p)\n' + IRQ % 'OUT(d);',
    'void g(void) { request_irq(1, (irq_handler_t)foo_fn, 0, n, p); }',
    'void g(void) { request_irq(1, &foo_fn, 0, n, p); }',
    'void g(void) { request_irq(1, msi ? foo_fn : other, 0, n, p); }',
    'void g(struct urb *urb) { urb->complete = foo_fn; }',
    'void g(struct dma_async_tx_descriptor *d) { d->callback = foo_fn; }',
    'void g(struct net_device *dev) { dev->set_multicast_list = foo_fn; }',
    'void g(void) { void (*fn)(struct foo *) = foo_fn; fn(p); }',
    'static void call(void (*f)(struct foo *)) { list_add(f); }\n'
    'static void g(void) { call(foo_fn); }',
    'static struct net_device_ops o = { .ndo_tx_timeout = foo_fn };',
    'module_param_call(x, foo_fn, get, NULL, 0644);',
    'void bar(struct foo *p) __attribute__((alias("foo_fn")));',
    'void bar(struct foo *p) __alias(foo_fn);'])
def test_one_more_way_in(harm: str) -> None:
    code = BASE + PCI % 'foo_fn(p);'
    assert flag(code) == 'GFP_KERNEL'
    assert flag(code + harm) == 'GFP_ATOMIC'


@pytest.mark.parametrize('harm', [
    'NdisAcquireSpinLock(&p->l);', 'OS_SPIN_LOCK(p);',
    'ENTER_CRITICAL_SECTION(p);', 'RTMP_IRQ_LOCK(&p->l, f);',
    'foo_irq_disable_save(p);', 'p->ops->acquire_lock(p);',
    'if (!spin_trylock(&p->l)) return 0;',
    'do { } while (!spin_trylock(&p->l));', 'write_seqlock(&p->s);',
    'write_seqcount_begin(&p->s);', 'hwspin_lock_timeout(h, 1);',
    'x = get_cpu_ptr(&y);', 'int cpu = get_cpu();', 'x = (spin_lock(&l), 3);',
    'x = 1;\n#ifdef X\nif (a)\n#endif\nspin_lock(&l);\n',
    'switch (x) { case 1: spin_lock(&l); break; default: break; }',
    'spin_lock(&a->lock); spin_unlock(&b->other);',
    'spin_lock(&l); if (x && spin_unlock(&l)) y();',
    'local_irq_save(f); spin_lock_irqsave(&l, g); '
    'spin_unlock_irqrestore(&l, g);',
    'rcu_read_lock(); spin_lock(&l); spin_unlock(&l);',
    'take(p); take(p); give(p);', 'if (try_take(p)) return 1;',
    'CLASS(spinlock_irqsave, g)(&l);', 'guard(foo_lock)(p);',
    'scoped_guard(spinlock, &l)\n'])
def test_one_more_lock(harm: str) -> None:
    helpers = 'static void take(struct foo *p) { rcu_read_lock(); }\n' \
        'static void give(struct foo *p) { rcu_read_unlock(); }\n' \
        'static int try_take(struct foo *p) { spin_lock(&p->l); if (p->x) { ' \
        'spin_unlock(&p->l); return 1; } return 0; }\n'
    assert flag(helpers + BASE + PCI % 'foo_fn(p);') == 'GFP_KERNEL'
    assert flag(helpers + BASE + PCI % (harm + ' foo_fn(p);')) == 'GFP_ATOMIC'


@pytest.mark.parametrize('before, safe', [
    ('if (x) goto l; msleep(1); l: ;', 'msleep(1);'),
    ('switch (x) { case 1: msleep(1); break; }', 'msleep(1); switch (x) { }'),
    ('x = 1;\n#ifdef Y\nmsleep(1);\n#endif\n', 'msleep(1);'),
    ('err = t(p); if (err) log();', 'err = t(p); if (err) return;'),
    ('if (u(p)) return;', 'if (t(p)) return;'),
    ('down(p);', 'msleep(1);'), ('ssleep(1);', 'msleep(1);')])
def test_one_less_proof(before: str, safe: str) -> None:
    helpers = '#define ssleep(x) udelay(x)\n' \
        'static void down(struct foo *p) { }\n' \
        'static int t(struct foo *p) { if (x) return -EIO; msleep(1); ' \
        'return 0; }\n' \
        'static int u(struct foo *p) { if (x) return 0; msleep(1); ' \
        'return 0; }\n'
    assert flag(helpers + UNKNOWN % (before + ' ALLOC')) == 'GFP_ATOMIC'
    assert flag(helpers + UNKNOWN % (safe + ' ALLOC')) == 'GFP_KERNEL'


# --------------------------------------------- what was not understood as code

HIDDEN = """
#define ENTER spin_lock(&p->lock)
#define foo_take spin_lock
#define DEBUG_ENTER printk("enter\\n");
#define LOCKED(p) for (spin_lock(&(p)->lock); p->on; spin_unlock(&(p)->lock))
#define WITH(p, x) do { spin_lock(&(p)->lock); x; spin_unlock(&(p)->lock); \\
} while (0)
#define CHECK do { if (!p) return 0; } while (0)
"""


@pytest.mark.parametrize('code, expected', [
    ('ENTER; ALLOC', 'GFP_ATOMIC'),
    ('CHECK; ALLOC', 'GFP_KERNEL'),
    ('foo_take(&p->lock); ALLOC', 'GFP_ATOMIC'),
    ('DEBUG_ENTER\nspin_lock(&p->lock); ALLOC', 'GFP_ATOMIC'),
    ('DEBUG_ENTER\nx(p); ALLOC', 'GFP_KERNEL'),
    ('LOCKED(p) { ALLOC }', 'GFP_ATOMIC'),
    ('WITH(p, p->x = dma_alloc_coherent(d, 1, &h, F));', 'GFP_ATOMIC'),
    ('WITH(p, p->x = 1); ALLOC', 'GFP_KERNEL'),
    ('FOO_DISABLE_INTERRUPTS(); ALLOC', 'GFP_ATOMIC')])
def test_locks_that_are_no_calls(code: str, expected: str) -> None:
    assert flag(HIDDEN + PCI % code) == expected


@pytest.mark.parametrize('handler, expected', [
    ('', 'GFP_KERNEL'),
    ('static irqreturn_t foo_irq FOO_ARGS { foo_fill(dev); return 1; }',
     'GFP_ATOMIC'),
    ('static irqreturn_t foo_irq(irq, dev) int irq; void *dev; '
     '{ foo_fill(dev); return 1; }', 'GFP_ATOMIC'),
    ('static irqreturn_t foo_irq(int irq, void *dev) '
     '{ DEBUG_ENTER foo_fill(dev); return 1; }', 'GFP_ATOMIC')])
def test_callers_that_are_not_understood(handler: str, expected: str) -> None:
    fill = 'static void foo_fill(struct foo *p) { ALLOC }\n'
    assert flag(fill + handler + PCI % 'foo_fill(p);') == expected


@pytest.mark.parametrize('other, expected', [
    ('int other(void) { return 0; }', 'GFP_KERNEL'),
    ('void other_irq(struct foo *p) { foo_fill(p); }', 'GFP_ATOMIC')])
def test_a_source_beside_the_driver(tmp_path: Path, other: str,
                                    expected: str) -> None:
    """A Makefile may hide that it belongs to the driver."""
    files = {'foo.h': 'void foo_fill(struct foo *p);\n',
             'foo.c': '#include "foo.h"\nvoid foo_fill(struct foo *p) '
             '{ ALLOC }\n' + PCI % 'foo_fill(p);',
             'other.c': '#include "foo.h"\n' + other}
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace('ALLOC', ALLOC))
    driver = Driver([str(tmp_path / name) for name in ('foo.c', 'foo.h')])
    func, = driver.functions_with('dma_alloc_coherent')
    call, = [k for k in func.calls() if k.name == 'dma_alloc_coherent']
    assert gfp.decide(driver, func, call).flag == expected


@pytest.mark.parametrize('objects, file, static, expected', [
    ('foo.o', 'core.S', '', 'GFP_KERNEL'),
    ('foo.o core.o', 'core.c', '', 'GFP_KERNEL'),
    ('foo.o core.o', 'core.S', 'static ', 'GFP_KERNEL'),
    ('foo.o core.o', 'core.S', '', 'GFP_ATOMIC'),
    ('foo.o core.o', 'core.o_shipped', '', 'GFP_ATOMIC'),
    ('foo.o $(src)/core.o_binary', 'core.o_binary', '', 'GFP_ATOMIC')])
def test_objects_that_are_no_c(tmp_path: Path, objects: str, file: str,
                               static: str, expected: str) -> None:
    """A prebuilt object may call whatever is not static."""
    code = static + 'void foo_fill(struct foo *p) { %s }\n' % ALLOC \
        + PCI % 'foo_fill(p);'
    for name, text in (('foo.c', code), (file, ''),
                       ('Kbuild', 'obj-m := x.o\nx-y := %s\n' % objects)):
        (tmp_path / name).write_text(text)
    driver = Driver([str(tmp_path / 'foo.c')])
    func, = driver.functions_with('dma_alloc_coherent')
    call, = [k for k in func.calls() if k.name == 'dma_alloc_coherent']
    assert gfp.decide(driver, func, call).flag == expected


@pytest.mark.parametrize('include, expected', [
    ('#include <linux/pci.h>', 'GFP_KERNEL'), ('#include "bar.h"', 'GFP_KERNEL'),
    ('#include "osal.h"', 'GFP_ATOMIC'), ('#include <osal.h>', 'GFP_ATOMIC')])
def test_a_header_that_was_not_found(include: str, expected: str) -> None:
    assert flag(include + '\n' + PCI % 'ALLOC', bar='') == expected


@pytest.mark.parametrize('macro, call, expected', [
    ('#define CALL(c, op) ((c)->ops->op(c))', 'CALL(p, start);', 'GFP_ATOMIC'),
    ('#define CALL(c, op) ((c)->ops->st##op(c))', 'CALL(p, art);',
     'GFP_ATOMIC'),
    ('#define CALL(c, op) ((c)->ops->op(c))', 'CALL(p, halt);', 'GFP_KERNEL'),
    ('#define CALL(c, op) op(c)', 'CALL(p, start);', 'GFP_KERNEL')])
def test_a_field_that_a_macro_is_given(macro: str, call: str,
                                       expected: str) -> None:
    assert flag(macro + '''
struct foo_ops { void (*start)(struct foo *p); void (*halt)(struct foo *p); };
static void foo_start(struct foo *p) { ALLOC }
static struct foo_ops ops = { .start = foo_start };
static irqreturn_t foo_irq(int irq, void *dev) { struct foo *p = dev; %s }
''' % call + PCI % 'request_irq(1, foo_irq, 0, "a", p); p->ops->start(p);') \
        == expected
