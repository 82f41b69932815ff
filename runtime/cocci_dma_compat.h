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

/* Coherent memory: always GFP_ATOMIC, always zeroed */
#define pci_alloc_consistent(pdev, size, handle) \
	dma_alloc_coherent(&(pdev)->dev, size, handle, GFP_ATOMIC)
#define pci_zalloc_consistent(pdev, size, handle) \
	dma_alloc_coherent(&(pdev)->dev, size, handle, GFP_ATOMIC)
#define pci_free_consistent(pdev, size, vaddr, handle) \
	dma_free_coherent(&(pdev)->dev, size, vaddr, handle)

/* Streaming mappings: the direction was an int */
#define COCCI_DMA_DIR(direction) ((enum dma_data_direction)(direction))

#define pci_map_single(pdev, ptr, size, direction) \
	dma_map_single(&(pdev)->dev, ptr, size, COCCI_DMA_DIR(direction))
#define pci_unmap_single(pdev, handle, size, direction) \
	dma_unmap_single(&(pdev)->dev, handle, size, COCCI_DMA_DIR(direction))
#define pci_map_page(pdev, page, offset, size, direction) \
	dma_map_page(&(pdev)->dev, page, offset, size, COCCI_DMA_DIR(direction))
#define pci_unmap_page(pdev, handle, size, direction) \
	dma_unmap_page(&(pdev)->dev, handle, size, COCCI_DMA_DIR(direction))
#define pci_map_sg(pdev, sg, nents, direction) \
	dma_map_sg(&(pdev)->dev, sg, nents, COCCI_DMA_DIR(direction))
#define pci_unmap_sg(pdev, sg, nents, direction) \
	dma_unmap_sg(&(pdev)->dev, sg, nents, COCCI_DMA_DIR(direction))
#define pci_dma_mapping_error(pdev, handle) \
	dma_mapping_error(&(pdev)->dev, handle)

#define pci_dma_sync_single_for_cpu(pdev, handle, size, direction) \
	dma_sync_single_for_cpu(&(pdev)->dev, handle, size, \
				COCCI_DMA_DIR(direction))
#define pci_dma_sync_single_for_device(pdev, handle, size, direction) \
	dma_sync_single_for_device(&(pdev)->dev, handle, size, \
				   COCCI_DMA_DIR(direction))
#define pci_dma_sync_sg_for_cpu(pdev, sg, nents, direction) \
	dma_sync_sg_for_cpu(&(pdev)->dev, sg, nents, COCCI_DMA_DIR(direction))
#define pci_dma_sync_sg_for_device(pdev, sg, nents, direction) \
	dma_sync_sg_for_device(&(pdev)->dev, sg, nents, COCCI_DMA_DIR(direction))

/* Masks */
#define pci_set_dma_mask(pdev, mask) dma_set_mask(&(pdev)->dev, mask)
#define pci_set_consistent_dma_mask(pdev, mask) \
	dma_set_coherent_mask(&(pdev)->dev, mask)

#endif /* COCCI_DMA_COMPAT_H */
