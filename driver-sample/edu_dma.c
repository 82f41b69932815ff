// SPDX-License-Identifier: GPL-2.0-only
/*
 * Driver for the "edu" teaching device of QEMU: the DMA engine
 *
 * The engine moves one block at a time and interrupts when it is done. All
 * callers hold edu->lock.
 */

#include <linux/io.h>
#include <linux/jiffies.h>

#include "edu.h"

irqreturn_t edu_irq(int irq, void *data)
{
	struct edu_dev *edu = data;
	u32 status = ioread32(edu->regs + EDU_IRQ_STATUS);

	if (!status)
		return IRQ_NONE;

	iowrite32(status, edu->regs + EDU_IRQ_ACK);
	complete(&edu->done);

	return IRQ_HANDLED;
}

static int edu_run(struct edu_dev *edu, u32 src, u32 dst, u32 len, u32 cmd)
{
	reinit_completion(&edu->done);

	iowrite32(src, edu->regs + EDU_DMA_SRC);
	iowrite32(dst, edu->regs + EDU_DMA_DST);
	iowrite32(len, edu->regs + EDU_DMA_COUNT);
	iowrite32(cmd | EDU_CMD_IRQ | EDU_CMD_START, edu->regs + EDU_DMA_CMD);

	if (!wait_for_completion_timeout(&edu->done, 5 * HZ)) {
		dev_err(&edu->pdev->dev, "DMA engine does not answer\n");
		return -ETIMEDOUT;
	}

	return 0;
}

/* Move a block from memory to the device */
int edu_send(struct edu_dev *edu, dma_addr_t bus, u32 addr, u32 len)
{
	return edu_run(edu, bus, addr, len, 0);
}

/* Announce a message of @len bytes in the header */
int edu_store_header(struct edu_dev *edu, u32 len)
{
	edu->header->magic = cpu_to_le32(EDU_MAGIC);
	edu->header->len = cpu_to_le32(len);

	return edu_send(edu, edu->header_dma, EDU_MEM, sizeof(*edu->header));
}

/* Read the header; a device that was just reset has none yet */
int edu_load_header(struct edu_dev *edu)
{
	int ret;

	ret = edu_run(edu, EDU_MEM, edu->header_dma, sizeof(*edu->header),
		      EDU_CMD_TO_RAM);
	if (ret)
		return ret;

	if (edu->header->magic != cpu_to_le32(EDU_MAGIC) ||
	    le32_to_cpu(edu->header->len) > EDU_DATA_SIZE)
		edu->header->len = 0;

	return 0;
}

/* Move the message from the device to the bounce buffer */
int edu_fetch(struct edu_dev *edu, u32 len)
{
	return edu_run(edu, EDU_MEM_DATA, virt_to_bus(edu->bounce), len,
		       EDU_CMD_TO_RAM);
}
