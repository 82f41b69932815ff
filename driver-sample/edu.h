/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Driver for the "edu" teaching device of QEMU: shared definitions
 */

#ifndef EDU_H
#define EDU_H

#include <linux/completion.h>
#include <linux/interrupt.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/types.h>

/* Registers, BAR 0 */
#define EDU_IRQ_STATUS		0x24
#define EDU_IRQ_ACK		0x64
#define EDU_DMA_SRC		0x80
#define EDU_DMA_DST		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_CMD		0x98

/* EDU_DMA_CMD */
#define EDU_CMD_START		0x01
#define EDU_CMD_TO_RAM		0x02
#define EDU_CMD_IRQ		0x04

#define EDU_DMA_BITS		28

/*
 * The memory of the device, as its DMA engine sees it: a header, then one
 * message. The engine cannot reach the last byte of the 4096.
 */
#define EDU_MEM			0x40000
#define EDU_MEM_DATA		(EDU_MEM + sizeof(struct edu_header))
#define EDU_DATA_SIZE		(4095 - sizeof(struct edu_header))

#define EDU_MAGIC		0x21756465

struct edu_header {
	__le32 magic;
	__le32 len;
};

struct edu_dev {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct miscdevice misc;
	struct mutex lock;		/* one user of the DMA engine at a time */
	struct completion done;
	void *bounce;			/* messages on their way to read() */
	struct edu_header *header;
	dma_addr_t header_dma;
};

irqreturn_t edu_irq(int irq, void *data);
int edu_send(struct edu_dev *edu, dma_addr_t bus, u32 addr, u32 len);
int edu_store_header(struct edu_dev *edu, u32 len);
int edu_load_header(struct edu_dev *edu);
int edu_fetch(struct edu_dev *edu, u32 len);

#endif /* EDU_H */
