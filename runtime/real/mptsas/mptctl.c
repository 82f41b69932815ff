// SPDX-License-Identifier: GPL-2.0-only
/*
 * Send a SCSI INQUIRY through mptctl, and look at what comes back. Exit status:
 * is it the name of QEMU's disk?
 */

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define VENDOR		"QEMU    "
#define VENDOR_OFFSET	8	/* in what INQUIRY returns */

#define INQUIRY		0x12
#define CONTROL_READ	0x02000000

#define MAX_ADAPTERS	4096	/* a number more each time that it is loaded */

/* MSG_SCSI_IO_REQUEST of lsi/mpi_init.h, without its list of buffers */
struct scsi_request {
	unsigned char target;
	unsigned char bus;
	unsigned char chain_offset;
	unsigned char function;		/* 0: SCSI */
	unsigned char cdb_length;
	unsigned char sense_length;
	unsigned char reserved;
	unsigned char flags;
	unsigned int context;
	unsigned char lun[8];
	unsigned int control;
	unsigned char cdb[16];
	unsigned int data_length;
	unsigned int sense_address;
};

/* struct mpt_ioctl_command of mptctl.h */
struct command {
	unsigned int adapter;
	unsigned int port;
	int max_data_size;
	int timeout;
	void *reply;
	void *data_in;
	void *data_out;
	void *sense;
	int max_reply_size;
	int data_in_size;
	int data_out_size;
	int max_sense_size;
	int buffers_offset;		/* in words */
	struct scsi_request request;
};

/* What mptctl takes the size of */
struct mpt_ioctl_command {
	unsigned int words[4];
	void *pointers[4];
	int sizes[5];
	char request;			/* of one byte in the header */
};

#define MPTCOMMAND	_IOWR('m', 20, struct mpt_ioctl_command)

int main(void)
{
	unsigned char reply[128];
	unsigned char sense[64];
	char data[36] = "";
	struct command command = {
		.timeout = 5,
		.reply = reply,
		.data_in = data,
		.sense = sense,
		.max_reply_size = sizeof(reply),
		.data_in_size = sizeof(data),
		.max_sense_size = sizeof(sense),
		.buffers_offset = sizeof(struct scsi_request) / 4,
		.request = {
			.cdb_length = 6,
			.control = CONTROL_READ,
			.cdb = { INQUIRY, 0, 0, 0, sizeof(data) },
			.data_length = sizeof(data),
		},
	};
	int ret = -1;
	int fd;

	fd = open("/dev/mptctl", O_RDWR);
	if (fd < 0) {
		printf("/dev/mptctl: %s\n", strerror(errno));
		return 1;
	}

	errno = ENODEV;
	while (ret && errno == ENODEV && command.adapter < MAX_ADAPTERS) {
		ret = ioctl(fd, MPTCOMMAND, &command);
		command.adapter++;
	}
	if (ret) {
		printf("INQUIRY: %s\n", strerror(errno));
		return 1;
	}

	if (memcmp(data + VENDOR_OFFSET, VENDOR, strlen(VENDOR))) {
		printf("data: INQUIRY does not tell " VENDOR "\n");
		return 1;
	}

	printf("INQUIRY: %.8s\n", data + VENDOR_OFFSET);
	return 0;
}
