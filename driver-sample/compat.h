/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * x86 lost virt_to_bus() in Linux 6.0. The Kbuild file includes this before
 * anything else, so that the driver in its old form still builds there.
 */

#ifndef EDU_COMPAT_H
#define EDU_COMPAT_H

#include <linux/io.h>

#ifndef virt_to_bus
#define virt_to_bus virt_to_phys
#endif

#endif /* EDU_COMPAT_H */
