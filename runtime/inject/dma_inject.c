// SPDX-License-Identifier: GPL-2.0-only
/*
 * Make the n-th call of a DMA API function fail, for the devices of one driver
 *
 *	insmod dma_inject.ko modules=edu
 *	cat /sys/kernel/debug/dma_inject/dma_alloc_attrs/calls
 *	echo 2 > /sys/kernel/debug/dma_inject/dma_alloc_attrs/fail
 *
 * "calls" counts the calls since it was last written; the call that makes it
 * equal to "fail" returns an error without having done anything. Calls for
 * devices that no driver of the named modules is bound to are left alone.
 * "places" has the place (the low half of the address) of each call.
 */

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

static char *modules[8];
static int modules_count;
module_param_array(modules, charp, &modules_count, 0444);
MODULE_PARM_DESC(modules, "Modules whose devices shall see failures");

#define MAX_PLACES	1024

struct target {
	struct kprobe probe;
	bool probed;
	unsigned long failure;		/* what a failed call returns */
	u32 calls;
	u32 fail;
	u32 places[MAX_PLACES];
	struct debugfs_u32_array array;
};

#define TARGET(function, value) {				\
	.probe = {						\
		.symbol_name = #function,			\
		.pre_handler = count_call,			\
		.post_handler = not_optimised,			\
	},							\
	.failure = (unsigned long)(value),			\
}

/*
 * Where a failing call goes on instead of in the function: it returns to the
 * caller, the stack being as it was on entry.
 */
void dma_inject_return(void);
asm(".pushsection .text\n"
	".type dma_inject_return, @function\n"
	"dma_inject_return:\n"
	"	ret\n"
	".size dma_inject_return, . - dma_inject_return\n"
	".popsection\n");

static bool is_ours(const struct device *dev)
{
	int i;

	if (!dev || !dev->driver || !dev->driver->owner)
		return false;

	for (i = 0; i < modules_count; i++) {
		if (!strcmp(dev->driver->owner->name, modules[i]))
			return true;
	}

	return false;
}

/*
 * dma_set_mask_and_coherent() and its like: what was good for dma_set_mask() is
 * good for dma_set_coherent_mask(), too, whose result they do not look at.
 */
static bool cannot_fail(const struct target *target, const struct device *dev,
			u64 argument)
{
	return !strcmp(target->probe.symbol_name, "dma_set_coherent_mask") &&
	       dev->dma_mask && *dev->dma_mask == argument;
}

static int count_call(struct kprobe *probe, struct pt_regs *regs)
{
	struct target *target = container_of(probe, struct target, probe);
	struct device *dev = (void *)regs_get_kernel_argument(regs, 0);

	if (!is_ours(dev) ||
	    cannot_fail(target, dev, regs_get_kernel_argument(regs, 1)))
		return 0;

	if (target->calls < MAX_PLACES)
		target->places[target->calls] =
			*(unsigned long *)kernel_stack_pointer(regs);

	if (++target->calls != target->fail)
		return 0;

	regs_set_return_value(regs, target->failure);
	instruction_pointer_set(regs, (unsigned long)dma_inject_return);

	return 1;
}

/*
 * A probe with a post_handler is never turned into a jump, which would ignore
 * the new instruction pointer.
 */
static void not_optimised(struct kprobe *probe, struct pt_regs *regs,
			  unsigned long flags)
{
}

static struct target targets[] = {
	TARGET(dma_set_mask, -EIO),
	TARGET(dma_set_coherent_mask, -EIO),
	TARGET(dma_alloc_attrs, 0),
	TARGET(dma_alloc_pages, 0),
	TARGET(dma_map_page_attrs, DMA_MAPPING_ERROR),
	TARGET(dma_map_resource, DMA_MAPPING_ERROR),
	TARGET(dma_map_sg_attrs, 0),
	TARGET(dma_map_sgtable, -ENOMEM),
};

static struct dentry *folder;

static void remove_probes(void)
{
	int i;

	debugfs_remove(folder);
	for (i = 0; i < ARRAY_SIZE(targets); i++) {
		if (targets[i].probed)
			unregister_kprobe(&targets[i].probe);
	}
}

static int __init dma_inject_init(void)
{
	struct dentry *entry;
	int ret;
	int i;

	folder = debugfs_create_dir("dma_inject", NULL);

	for (i = 0; i < ARRAY_SIZE(targets); i++) {
		ret = register_kprobe(&targets[i].probe);
		/* An older kernel has it inline, upon another of these */
		if (ret == -ENOENT)
			continue;
		if (ret) {
			pr_err("%s cannot be probed: %d\n",
			       targets[i].probe.symbol_name, ret);
			remove_probes();
			return ret;
		}

		targets[i].probed = true;
		entry = debugfs_create_dir(targets[i].probe.symbol_name, folder);
		debugfs_create_u32("calls", 0600, entry, &targets[i].calls);
		debugfs_create_u32("fail", 0600, entry, &targets[i].fail);
		targets[i].array.array = targets[i].places;
		targets[i].array.n_elements = MAX_PLACES;
		debugfs_create_u32_array("places", 0400, entry,
					 &targets[i].array);
	}

	return 0;
}

static void __exit dma_inject_exit(void)
{
	remove_probes();
}

module_init(dma_inject_init);
module_exit(dma_inject_exit);

MODULE_DESCRIPTION("Failure injection for the DMA API");
MODULE_AUTHOR("The cocci-dma developers");
MODULE_LICENSE("GPL");
