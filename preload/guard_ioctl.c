/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an ioctl's argument is. Most requests say it themselves: they have the size of a
 * structure in them, and whether it is read or written. Here are the others: those that
 * are older than that, those that say something else than they do, and those whose
 * structure points on.
 *
 * Sizes that stand here as numbers are of structures whose headers disagree with others.
 */
#include "preload/guard_table.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/termios.h>
#include <linux/blkpg.h>
#include <linux/blkzoned.h>
#include <linux/cdrom.h>
#include <linux/fb.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/if_tun.h>
#include <linux/kd.h>
#include <linux/loop.h>
#include <linux/perf_event.h>
#include <linux/random.h>
#include <linux/serial.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <linux/vt.h>
#include <scsi/sg.h>

/* Of struct ifreq, iwreq, rtentry and arpreq. */
#define IFREQ 40
#define IWREQ 32
#define RTENTRY 120
#define ARPREQ 68
#define TERMIOS sizeof(struct termios)
#define TERMIO sizeof(struct termio)
#define WINSIZE sizeof(struct winsize)
#define SERIAL sizeof(struct serial_struct)
#define VARIABLE sizeof(struct fb_var_screeninfo)
#define DM_IOCTL 312
#define NVME_COMMAND 72

static const struct call_op ioctl_ops[] = {
	/* ---- terminals and descriptors; the usual ones first ----------------------- */
	OP(TCGETS, OUT(2, TERMIOS)),
	OP(FIONREAD, OUT(2, 4)),
	OP(FIONBIO, IN(2, 4)),
	OP(TIOCGWINSZ, OUT(2, WINSIZE)),
	OP(TIOCSWINSZ, IN(2, WINSIZE)),
	OPS(TCSETS, TCSETSF, IN(2, TERMIOS)),
	OP(TCGETA, OUT(2, TERMIO)),
	OPS(TCSETA, TCSETAF, IN(2, TERMIO)),
	OPS(TCSBRK, TIOCSCTTY), /* TCXONC, TCFLSH, TIOCEXCL, TIOCNXCL */
	OP(TIOCGPGRP, OUT(2, 4)),
	OP(TIOCSPGRP, IN(2, 4)),
	OP(TIOCOUTQ, OUT(2, 4)),
	OP(TIOCSTI, IN(2, 1)),
	OP(TIOCMGET, OUT(2, 4)),
	OPS(TIOCMBIS, TIOCMSET, IN(2, 4)),
	OP(TIOCGSOFTCAR, OUT(2, 4)),
	OP(TIOCSSOFTCAR, IN(2, 4)),
	OP(TIOCLINUX, INOUT(2, 16), PARTLY),
	OP(TIOCCONS),
	OP(TIOCGSERIAL, OUT(2, SERIAL)),
	OP(TIOCSSERIAL, IN(2, SERIAL)),
	OP(TIOCPKT, IN(2, 4)),
	OP(TIOCNOTTY),
	OP(TIOCSETD, IN(2, 4)),
	OP(TIOCGETD, OUT(2, 4)),
	OPS(TCSBRKP, TIOCCBRK), /* TIOCSBRK */
	OP(TIOCGSID, OUT(2, 4)),
	OP(TIOCGRS485, OUT(2, sizeof(struct serial_rs485))),
	OP(TIOCSRS485, INOUT(2, sizeof(struct serial_rs485))),
	OP(TIOCVHANGUP),
	OP(TIOCGPTPEER),
	OP(TIOCSIG), /* the signal itself */
	OPS(FIONCLEX, FIOCLEX),
	OP(FIOASYNC, IN(2, 4)),
	OP(TIOCSERCONFIG),
	OP(TIOCSERGWILD, OUT(2, 4)),
	OP(TIOCSERSWILD, IN(2, 4)),
	OP(TIOCGLCKTRMIOS, OUT(2, TERMIOS)),
	OP(TIOCSLCKTRMIOS, IN(2, TERMIOS)),
	OP(TIOCSERGETLSR, OUT(2, 4)),
	OP(TIOCMIWAIT),
	OP(TIOCGICOUNT, OUT(2, sizeof(struct serial_icounter_struct))),
	OP(FIOQSIZE, OUT(2, 8)),

	/* ---- sockets --------------------------------------------------------------- */
	OPS(FIOSETOWN, SIOCSPGRP, IN(2, 4)),
	OPS(FIOGETOWN, SIOCATMARK, OUT(2, 4)),             /* SIOCGPGRP */
	OPS(SIOCGSTAMP_OLD, SIOCGSTAMPNS_OLD, OUT(2, 16)), /* a timeval, a timespec */
	OPS(SIOCADDRT, SIOCDELRT, IN(2, RTENTRY), PARTLY), /* a device's name */
	OP(SIOCRTMSG),
	OP(SIOCGIFCONF, INOUT(2, 16), OUT_AT(2, 8, AT_INT(2, 0))),
	OP(SIOCSIFHWBROADCAST, IN(2, IFREQ)),
	/* A vector of words, and what they name. */
	OPS(SIOCGIFBR, SIOCSIFBR, INOUT(2, 32), PARTLY),
	/* What ifr_data points to is as its first word says. */
	OP(SIOCETHTOOL, INOUT(2, IFREQ), OUT_AT(2, 16, 4096), PARTLY),
	OPS(SIOCGIFVLAN, SIOCSIFVLAN, INOUT(2, 56)), /* a struct vlan_ioctl_args */
	OP(SIOCWANDEV, INOUT(2, IFREQ), PARTLY),
	OP(SIOCOUTQNSD, OUT(2, 4)),
	OP(SIOCGSKNS),
	OPS(SIOCDARP, SIOCSARP, INOUT(2, ARPREQ)),
	OPS(SIOCDRARP, SIOCSRARP, INOUT(2, ARPREQ)),
	OPS(SIOCBRADDBR, SIOCBRDELBR, IN(2, 16)),
	OPS(SIOCSHWTSTAMP, SIOCGHWTSTAMP, INOUT(2, IFREQ), OUT_AT(2, 16, 12)),
	OPS(SIOCBONDENSLAVE, SIOCBONDCHANGEACTIVE, INOUT(2, IFREQ), OUT_AT(2, 16, 64)),
	/* A driver's own. */
	OPS(SIOCDEVPRIVATE, SIOCDEVPRIVATE + 15, INOUT(2, IFREQ), PARTLY),
	OPS(SIOCPROTOPRIVATE, SIOCPROTOPRIVATE + 15, INOUT(2, IFREQ), PARTLY),
	/* All others with a struct ifreq. */
	OPS(0x8910, 0x899f, INOUT(2, IFREQ)),
	OPS(0x89a2, 0x89af, INOUT(2, IFREQ)),
	/* Wireless: a struct iw_point may say where there is more, and how many. */
	OPS(0x8b00, 0x8bff, INOUT(2, IWREQ), PARTLY),
	OP(TUNSETIFF, INOUT(2, IFREQ)),
	OP(TUNGETIFF, OUT(2, IFREQ)),
	OP(TUNSETQUEUE, IN(2, IFREQ)),
	OP(TUNATTACHFILTER, FILTER(2)),
	OP(TUNDETACHFILTER, FILTER(2)),
	OP(TUNGETFILTER, OUT(2, 16), PARTLY),
	OP(TUNSETTXFILTER, IN(2, 4), IN_PAST(2, 4, 6 * AT16(2, 2))),
	/* The number itself, or nothing. */
	OPS(TUNSETNOCSUM, TUNSETDEBUG),
	OP(TUNSETPERSIST),
	OP(TUNSETOWNER),
	OP(TUNSETLINK),
	OP(TUNSETGROUP),
	OP(TUNSETOFFLOAD),

	/* ---- files ----------------------------------------------------------------- */
	OP(FIBMAP, INOUT(2, 4)),
	OP(FIGETBSZ, OUT(2, 4)),
	OPS(FIFREEZE, FITHAW),
	OP(FICLONE),
	/* In the structure is how many there may be behind it. */
	OP(FS_IOC_FIEMAP, INOUT(2, sizeof(struct fiemap)),
	   OUT_PAST(2, sizeof(struct fiemap),
		    sizeof(struct fiemap_extent) * AT32(2, 24))),
	OP(FIDEDUPERANGE, INOUT(2, sizeof(struct file_dedupe_range)),
	   OUT_PAST(2, sizeof(struct file_dedupe_range),
		    sizeof(struct file_dedupe_range_info) * AT16(2, 16))),
	OP(UFFDIO_COPY, INOUT(2, sizeof(struct uffdio_copy)), IN_AT(2, 8, AT64(2, 16))),
	OP(PERF_EVENT_IOC_SET_FILTER, STRING(2)),
	OP(PERF_EVENT_IOC_SET_BPF),
	OP(RNDADDENTROPY, IN(2, 8), IN_PAST(2, 8, AT_INT(2, 4))),

	/* ---- block devices --------------------------------------------------------- */
	OP(BLKROSET, IN(2, 4)),
	OP(BLKROGET, OUT(2, 4)),
	OP(BLKRRPART),
	OP(BLKGETSIZE, OUT(2, sizeof(long))),
	OP(BLKFLSBUF),
	OP(BLKRASET),
	OP(BLKRAGET, OUT(2, sizeof(long))),
	OP(BLKFRASET),
	OP(BLKFRAGET, OUT(2, sizeof(long))),
	OP(BLKSECTGET, OUT(2, 2)),
	OP(BLKSSZGET, OUT(2, 4)),
	OP(BLKPG, IN(2, sizeof(struct blkpg_ioctl_arg)),
	   IN_AT(2, 16, sizeof(struct blkpg_partition))),
	OP(BLKDISCARD, IN(2, 16)),
	OPS(BLKIOMIN, BLKDISCARDZEROES,
	    OUT(2, 4)), /* BLKIOOPT, BLKALIGNOFF, BLKPBSZGET */
	OP(BLKSECDISCARD, IN(2, 16)),
	OP(BLKROTATIONAL, OUT(2, 2)),
	OP(BLKZEROOUT, IN(2, 16)),
	OP(BLKREPORTZONE, INOUT(2, sizeof(struct blk_zone_report)),
	   OUT_PAST(2, sizeof(struct blk_zone_report),
		    sizeof(struct blk_zone) * AT32(2, 8))),
	OP(HDIO_GETGEO, OUT(2, sizeof(struct hd_geometry))),
	OP(HDIO_GET_IDENTITY, OUT(2, 512)),
	OPS(0x0302, 0x030c, OUT(2, sizeof(long))), /* HDIO_GET_... */
	OP(HDIO_DRIVE_TASK, INOUT(2, 7)),
	OP(HDIO_DRIVE_CMD, INOUT(2, 4), OUT_PAST(2, 4, 512 * AT8(2, 3))),
	OPS(0x0320, 0x032f), /* HDIO_SET_...: the value itself */
	OPS(LOOP_SET_FD, LOOP_CLR_FD),
	OP(LOOP_SET_STATUS, IN(2, sizeof(struct loop_info))),
	OP(LOOP_GET_STATUS, OUT(2, sizeof(struct loop_info))),
	OP(LOOP_SET_STATUS64, IN(2, sizeof(struct loop_info64))),
	OP(LOOP_GET_STATUS64, OUT(2, sizeof(struct loop_info64))),
	OPS(LOOP_CHANGE_FD, LOOP_SET_BLOCK_SIZE),
	OP(LOOP_CONFIGURE, IN(2, sizeof(struct loop_config))),
	OPS(LOOP_CTL_ADD, LOOP_CTL_GET_FREE),
	/* As long as it says, and what it says is in it. */
	OPS(0xc138fd00, 0xc138fdff, INOUT(2, DM_IOCTL), INOUT(2, AT32(2, 12))),
	OP(0xc0484e41, INOUT(2, NVME_COMMAND), OUT_AT(2, 24, AT32(2, 36)),
	   OUT_AT(2, 16, AT32(2, 32))), /* NVME_IOCTL_ADMIN_CMD */
	OP(0xc0484e43, INOUT(2, NVME_COMMAND), OUT_AT(2, 24, AT32(2, 36)),
	   OUT_AT(2, 16, AT32(2, 32))), /* NVME_IOCTL_IO_CMD */
	/* A struct sg_io_hdr: data, command and sense, each with its length. */
	OP(SG_IO, INOUT(2, sizeof(struct sg_io_hdr)), OUT_AT(2, 16, AT32(2, 12)),
	   IN_AT(2, 24, AT8(2, 8)), OUT_AT(2, 32, AT8(2, 9)), PARTLY),
	OP(SG_SET_TIMEOUT, IN(2, 4)),
	OP(SG_GET_TIMEOUT),
	OP(SG_GET_VERSION_NUM, OUT(2, 4)),
	OP(SG_GET_RESERVED_SIZE, OUT(2, 4)),
	OP(SG_SET_RESERVED_SIZE, IN(2, 4)),
	OP(0x5382, OUT(2, 8)), /* SCSI_IOCTL_GET_IDLUN */
	OP(0x5386, OUT(2, 4)), /* SCSI_IOCTL_GET_BUS_NUMBER */
	OPS(CDROMPAUSE, CDROMRESUME),
	OP(CDROMREADTOCHDR, OUT(2, sizeof(struct cdrom_tochdr))),
	OP(CDROMREADTOCENTRY, INOUT(2, sizeof(struct cdrom_tocentry))),
	OPS(CDROMSTOP, CDROMEJECT), /* CDROMSTART */
	OP(CDROMSUBCHNL, INOUT(2, sizeof(struct cdrom_subchnl))),
	OP(CDROMMULTISESSION, INOUT(2, sizeof(struct cdrom_multisession))),
	OP(CDROM_GET_MCN, OUT(2, sizeof(struct cdrom_mcn))),
	OP(CDROMEJECT_SW),
	OPS(CDROM_SET_OPTIONS, CDROM_DISC_STATUS),
	OPS(CDROM_LOCKDOOR, CDROM_GET_CAPABILITY),

	/* ---- the console ----------------------------------------------------------- */
	OPS(KIOCSOUND, KDMKTONE),
	OP(KDGETLED, OUT(2, 1)),
	OP(KDSETLED),
	OP(KDGKBTYPE, OUT(2, 1)),
	OPS(KDADDIO, KDSETMODE),
	OP(KDGETMODE, OUT(2, 4)),
	OP(GIO_SCRNMAP, OUT(2, E_TABSZ)),
	OP(PIO_SCRNMAP, IN(2, E_TABSZ)),
	OP(KDGKBMODE, OUT(2, 4)),
	OP(KDSKBMODE),
	OP(KDGKBENT, INOUT(2, sizeof(struct kbentry))),
	OP(KDSKBENT, IN(2, sizeof(struct kbentry))),
	OP(KDGKBSENT, INOUT(2, sizeof(struct kbsentry))),
	OP(KDSKBSENT, IN(2, sizeof(struct kbsentry))),
	OP(KDSIGACCEPT),
	OP(KDKBDREP, INOUT(2, sizeof(struct kbd_repeat))),
	OP(GIO_FONT, OUT(2, 256 * 32)),
	OP(PIO_FONT, IN(2, 256 * 32)),
	OP(KDGKBMETA, OUT(2, 4)),
	OP(KDSKBMETA),
	OP(KDGKBLED, OUT(2, 1)),
	OP(KDSKBLED),
	OP(GIO_UNIMAP, INOUT(2, sizeof(struct unimapdesc)),
	   OUT_AT(2, 8, sizeof(struct unipair) * AT16(2, 0))),
	OP(PIO_UNIMAP, IN(2, sizeof(struct unimapdesc)),
	   IN_AT(2, 8, sizeof(struct unipair) * AT16(2, 0))),
	OP(PIO_UNIMAPCLR, IN(2, sizeof(struct unimapinit))),
	OP(GIO_UNISCRNMAP, OUT(2, 2 * E_TABSZ)),
	OP(PIO_UNISCRNMAP, IN(2, 2 * E_TABSZ)),
	OP(GIO_CMAP, OUT(2, 48)),
	OP(PIO_CMAP, IN(2, 48)),
	OP(KDFONTOP, INOUT(2, sizeof(struct console_font_op)), PARTLY),
	OP(VT_OPENQRY, OUT(2, 4)),
	OP(VT_GETMODE, OUT(2, sizeof(struct vt_mode))),
	OP(VT_SETMODE, IN(2, sizeof(struct vt_mode))),
	OP(VT_GETSTATE, OUT(2, sizeof(struct vt_stat))),
	OPS(VT_SENDSIG, VT_DISALLOCATE),
	OP(VT_RESIZE, IN(2, sizeof(struct vt_sizes))),
	OP(VT_RESIZEX, IN(2, sizeof(struct vt_consize))),
	OPS(VT_LOCKSWITCH, VT_UNLOCKSWITCH),
	OP(VT_GETHIFONTMASK, OUT(2, 2)),
	OP(VT_WAITEVENT, INOUT(2, sizeof(struct vt_event))),
	OP(VT_SETACTIVATE, IN(2, sizeof(struct vt_setactivate))),
	OP(FBIOGET_VSCREENINFO, OUT(2, VARIABLE)),
	OP(FBIOPUT_VSCREENINFO, INOUT(2, VARIABLE)),
	OP(FBIOGET_FSCREENINFO, OUT(2, sizeof(struct fb_fix_screeninfo))),
	/* Four arrays. */
	OPS(FBIOGETCMAP, FBIOPUTCMAP, INOUT(2, sizeof(struct fb_cmap)), PARTLY),
	OP(FBIOPAN_DISPLAY, INOUT(2, VARIABLE)),
	OP(FBIOBLANK),
};

const struct call_op *call_ioctl_ops(size_t *nr)
{
	*nr = sizeof(ioctl_ops) / sizeof(ioctl_ops[0]);
	return ioctl_ops;
}
