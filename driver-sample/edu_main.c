// SPDX-License-Identifier: GPL-2.0-only
/*
 * Driver for the "edu" teaching device of QEMU: PCI and character device
 *
 * What is written to /dev/edu is kept in the memory of the device as one
 * message, and can be read back from there.
 */

#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "edu.h"

static struct edu_dev *edu_of(struct file *file)
{
	return container_of(file->private_data, struct edu_dev, misc);
}

static ssize_t edu_read(struct file *file, char __user *ubuf, size_t count,
			loff_t *ppos)
{
	struct edu_dev *edu = edu_of(file);
	ssize_t ret;
	u32 len;

	if (mutex_lock_interruptible(&edu->lock))
		return -ERESTARTSYS;

	ret = edu_load_header(edu);
	if (ret)
		goto out_unlock;

	len = le32_to_cpu(edu->header->len);
	if (*ppos >= len)
		goto out_unlock;

	ret = edu_fetch(edu, len);
	if (ret)
		goto out_unlock;

	ret = simple_read_from_buffer(ubuf, count, ppos, edu->bounce, len);

out_unlock:
	mutex_unlock(&edu->lock);
	return ret;
}

static ssize_t edu_write(struct file *file, const char __user *ubuf,
			 size_t count, loff_t *ppos)
{
	struct edu_dev *edu = edu_of(file);
	struct device *dev = &edu->pdev->dev;
	dma_addr_t bus;
	void *buf;
	int ret;

	if (!count || count > EDU_DATA_SIZE)
		return -EINVAL;

	buf = kmalloc(count, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;

	if (copy_from_user(buf, ubuf, count)) {
		ret = -EFAULT;
		goto out_free;
	}

	if (mutex_lock_interruptible(&edu->lock)) {
		ret = -ERESTARTSYS;
		goto out_free;
	}

	bus = dma_map_single(dev, buf, count, DMA_TO_DEVICE);
	ret = edu_send(edu, bus, EDU_MEM_DATA, count);
	dma_unmap_single(dev, bus, count, DMA_TO_DEVICE);
	if (ret)
		goto out_unlock;

	ret = edu_store_header(edu, count);

out_unlock:
	mutex_unlock(&edu->lock);
out_free:
	kfree(buf);
	return ret ? ret : count;
}

static const struct file_operations edu_fops = {
	.owner	= THIS_MODULE,
	.read	= edu_read,
	.write	= edu_write,
	.llseek	= default_llseek,
};

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu_dev *edu;
	int ret;

	edu = kzalloc(sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;

	edu->pdev = pdev;
	mutex_init(&edu->lock);
	init_completion(&edu->done);
	pci_set_drvdata(pdev, edu);

	ret = pci_enable_device(pdev);
	if (ret)
		goto err_free;

	ret = pci_request_regions(pdev, "edu");
	if (ret)
		goto err_disable;

	ret = -ENOMEM;
	edu->regs = pci_iomap(pdev, 0, 0);
	if (!edu->regs)
		goto err_regions;

	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(EDU_DMA_BITS));
	if (ret)
		goto err_unmap;
	pci_set_master(pdev);

	ret = -ENOMEM;
	edu->bounce = kmalloc(EDU_DATA_SIZE, GFP_KERNEL);
	if (!edu->bounce)
		goto err_unmap;

	edu->header = dma_alloc_coherent(&pdev->dev, sizeof(*edu->header),
					 &edu->header_dma, GFP_KERNEL);
	if (!edu->header)
		goto err_bounce;

	ret = request_irq(pdev->irq, edu_irq, IRQF_SHARED, "edu", edu);
	if (ret)
		goto err_header;

	edu->misc.minor = MISC_DYNAMIC_MINOR;
	edu->misc.name = "edu";
	edu->misc.fops = &edu_fops;
	edu->misc.parent = &pdev->dev;
	ret = misc_register(&edu->misc);
	if (ret)
		goto err_irq;

	return 0;

err_irq:
	free_irq(pdev->irq, edu);
err_header:
	dma_free_coherent(&pdev->dev, sizeof(*edu->header), edu->header,
			  edu->header_dma);
err_bounce:
	kfree(edu->bounce);
err_unmap:
	pci_iounmap(pdev, edu->regs);
err_regions:
	pci_release_regions(pdev);
err_disable:
	pci_disable_device(pdev);
err_free:
	kfree(edu);
	return ret;
}

/* An open file holds the module, so that nobody is in read() or write() here */
static void edu_remove(struct pci_dev *pdev)
{
	struct edu_dev *edu = pci_get_drvdata(pdev);

	misc_deregister(&edu->misc);
	free_irq(pdev->irq, edu);
	dma_free_coherent(&pdev->dev, sizeof(*edu->header), edu->header,
			  edu->header_dma);
	kfree(edu->bounce);
	pci_iounmap(pdev, edu->regs);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
	kfree(edu);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name		= "edu",
	.id_table	= edu_ids,
	.probe		= edu_probe,
	.remove		= edu_remove,
	.driver		= {
		.suppress_bind_attrs = true,
	},
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("QEMU edu device, in the style of an old driver");
MODULE_AUTHOR("The cocci-dma developers");
MODULE_LICENSE("GPL");
