/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The DMA interfaces that Linux 5.18 and 6.0 removed, for building the old form
 * of a driver on a newer kernel. Force-included before anything else:
 *
 *	make ... KCFLAGS='-include cocci_dma_compat.h'
 *
 * Macros only, and no #include: headers pulled in this early would come before
 * the driver's own "#define pr_fmt" or "#define DEBUG". Everything that is used
 * here is declared by <linux/pci.h> and <linux/io.h>, which such drivers
 * include in any case. isa_virt_to_bus() needs nothing, x86 still has it.
 */

#ifndef COCCI_DMA_COMPAT_H
#define COCCI_DMA_COMPAT_H

/* x86: bus addresses were physical addresses, which an IOMMU makes wrong */
#define virt_to_bus virt_to_phys
#define bus_to_virt phys_to_virt

#define PCI_DMA_BIDIRECTIONAL	DMA_BIDIRECTIONAL
#define PCI_DMA_TODEVICE	DMA_TO_DEVICE
#define PCI_DMA_FROMDEVICE	DMA_FROM_DEVICE
#define PCI_DMA_NONE		DMA_NONE

/* The device may be NULL, or a void pointer */
#define COCCI_DMA_DEV(pdev) (&((struct pci_dev *)(pdev))->dev)

/* Coherent memory: always GFP_ATOMIC, always zeroed */
#define pci_alloc_consistent(pdev, size, handle) \
	dma_alloc_coherent(COCCI_DMA_DEV(pdev), size, handle, GFP_ATOMIC)
#define pci_zalloc_consistent(pdev, size, handle) \
	dma_alloc_coherent(COCCI_DMA_DEV(pdev), size, handle, GFP_ATOMIC)
#define pci_free_consistent(pdev, size, vaddr, handle) \
	dma_free_coherent(COCCI_DMA_DEV(pdev), size, vaddr, handle)

/* Streaming mappings: the direction was an int */
#define COCCI_DMA_DIR(direction) ((enum dma_data_direction)(direction))

#define pci_map_single(pdev, ptr, size, direction) \
	dma_map_single(COCCI_DMA_DEV(pdev), ptr, size, COCCI_DMA_DIR(direction))
#define pci_unmap_single(pdev, handle, size, direction) \
	dma_unmap_single(COCCI_DMA_DEV(pdev), handle, size, COCCI_DMA_DIR(direction))
#define pci_map_page(pdev, page, offset, size, direction) \
	dma_map_page(COCCI_DMA_DEV(pdev), page, offset, size, COCCI_DMA_DIR(direction))
#define pci_unmap_page(pdev, handle, size, direction) \
	dma_unmap_page(COCCI_DMA_DEV(pdev), handle, size, COCCI_DMA_DIR(direction))
#define pci_map_sg(pdev, sg, nents, direction) \
	dma_map_sg(COCCI_DMA_DEV(pdev), sg, nents, COCCI_DMA_DIR(direction))
#define pci_unmap_sg(pdev, sg, nents, direction) \
	dma_unmap_sg(COCCI_DMA_DEV(pdev), sg, nents, COCCI_DMA_DIR(direction))
#define pci_dma_mapping_error(pdev, handle) \
	dma_mapping_error(COCCI_DMA_DEV(pdev), handle)

#define pci_dma_sync_single_for_cpu(pdev, handle, size, direction) \
	dma_sync_single_for_cpu(COCCI_DMA_DEV(pdev), handle, size, \
				COCCI_DMA_DIR(direction))
#define pci_dma_sync_single_for_device(pdev, handle, size, direction) \
	dma_sync_single_for_device(COCCI_DMA_DEV(pdev), handle, size, \
				   COCCI_DMA_DIR(direction))
#define pci_dma_sync_sg_for_cpu(pdev, sg, nents, direction) \
	dma_sync_sg_for_cpu(COCCI_DMA_DEV(pdev), sg, nents, COCCI_DMA_DIR(direction))
#define pci_dma_sync_sg_for_device(pdev, sg, nents, direction) \
	dma_sync_sg_for_device(COCCI_DMA_DEV(pdev), sg, nents, COCCI_DMA_DIR(direction))

/* Masks */
#define pci_set_dma_mask(pdev, mask) dma_set_mask(COCCI_DMA_DEV(pdev), mask)
#define pci_set_consistent_dma_mask(pdev, mask) \
	dma_set_coherent_mask(COCCI_DMA_DEV(pdev), mask)

/* Older interfaces */
#define dma_zalloc_coherent(dev, size, handle, flags) \
	dma_alloc_coherent(dev, size, handle, flags)
#define pci_set_dma_max_seg_size(pdev, size) \
	(dma_set_max_seg_size(COCCI_DMA_DEV(pdev), size), 0)
#define pci_set_dma_seg_boundary(pdev, mask) \
	(dma_set_seg_boundary(COCCI_DMA_DEV(pdev), mask), 0)
#define DECLARE_PCI_UNMAP_ADDR(name) dma_addr_t name;
#define pci_unmap_addr(ptr, name) ((ptr)->name)
#define pci_unmap_addr_set(ptr, name, val) ((ptr)->name = (val))

/* Pools, up to Linux 4.12 */
#define pci_pool dma_pool
#define pci_pool_create(name, pdev, size, align, boundary) \
	dma_pool_create(name, COCCI_DMA_DEV(pdev), size, align, boundary)
#define pci_pool_destroy(pool) dma_pool_destroy(pool)
#define pci_pool_alloc(pool, flags, handle) \
	dma_pool_alloc(pool, flags, handle)
#define pci_pool_zalloc(pool, flags, handle) \
	dma_pool_zalloc(pool, flags, handle)
#define pci_pool_free(pool, vaddr, handle) \
	dma_pool_free(pool, vaddr, handle)

#endif /* COCCI_DMA_COMPAT_H */
