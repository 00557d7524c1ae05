/* A camera that is not there: preloaded into a process, it answers for /dev/video7 as Video4Linux would.
 *
 * Frames of 64x48 in YUYV come at 50 per second; their brightness is 16 times their number, which goes from 1 to 12.
 * After WEBCAM_FRAMES of them, where that is set, the camera is unplugged: reading fails, and so does opening it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { WIDTH = 64, HEIGHT = 48, RATE = 50, BUFFERS = 4, BYTES = 2 * WIDTH * HEIGHT };

static int camera = -1, frames, queued[BUFFERS];
static unsigned char *memory[BUFFERS];

static int unplugged(void) {
    const char *most = getenv("WEBCAM_FRAMES");
    return most && frames >= atoi(most);
}

static int open_camera(void) {
    struct itimerspec every = {{0, 1000000000 / RATE}, {0, 1000000000 / RATE}};
    if (unplugged()) {
        errno = ENODEV;
        return -1;
    }
    /* A timer is a file that can be waited for, as a camera is. */
    camera = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(camera, 0, &every, NULL);
    memset(queued, 0, sizeof queued);
    return camera;
}

static int any_open(const char *symbol, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, symbol);
    return strcmp(path, "/dev/video7") ? real(path, flags, mode) : open_camera();
}

#define DEFINE_OPEN(name)                             \
    int name(const char *path, int flags, ...) {      \
        va_list rest;                                 \
        va_start(rest, flags);                        \
        mode_t mode = va_arg(rest, int);              \
        va_end(rest);                                 \
        return any_open(#name, path, flags, mode);    \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

int close(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd == camera) camera = -1;
    return real(fd);
}

static void *any_mmap(const char *symbol, void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, symbol);
    if (fd < 0 || fd != camera) return real(at, length, protection, flags, fd, offset);
    return memory[offset / BYTES] = real(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return any_mmap("mmap", at, length, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return any_mmap("mmap64", at, length, protection, flags, fd, offset);
}

static int refuse(int error) {
    errno = error;
    return -1;
}

static int take_frame(struct v4l2_buffer *buffer) {
    uint64_t ticks;
    int i = 0;
    if (unplugged()) return refuse(ENODEV);
    if (read(camera, &ticks, sizeof ticks) < 0) return refuse(EAGAIN);
    while (i < BUFFERS && !queued[i]) i++;
    if (i == BUFFERS) return refuse(EAGAIN);
    frames++;
    for (int k = 0; k < BYTES; k += 2) {
        memory[i][k] = 16 * ((frames - 1) % 12 + 1);
        memory[i][k + 1] = 128;
    }
    queued[i] = 0;
    buffer->index = i;
    buffer->bytesused = buffer->length = BYTES;
    return 0;
}

static int answer(unsigned long request, void *data) {
    struct v4l2_capability *able = data;
    struct v4l2_format *format = data;
    struct v4l2_streamparm *parameters = data;
    struct v4l2_requestbuffers *wanted = data;
    struct v4l2_buffer *buffer = data;
    switch (request) {
    case VIDIOC_QUERYCAP:
        memset(able, 0, sizeof *able);
        strcpy((char *)able->driver, "pretend");
        able->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_S_FMT:
        if (format->fmt.pix.pixelformat != V4L2_PIX_FMT_YUYV) return refuse(EINVAL);
        /* fall through */
    case VIDIOC_G_FMT:
        format->fmt.pix.width = WIDTH;
        format->fmt.pix.height = HEIGHT;
        format->fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
        format->fmt.pix.field = V4L2_FIELD_NONE;
        format->fmt.pix.bytesperline = 2 * WIDTH;
        format->fmt.pix.sizeimage = BYTES;
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM:
        parameters->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        parameters->parm.capture.timeperframe = (struct v4l2_fract){1, RATE};
        return 0;
    case VIDIOC_REQBUFS:
        if (wanted->count > BUFFERS) wanted->count = BUFFERS;
        return 0;
    case VIDIOC_QUERYBUF:
        buffer->length = BYTES;
        buffer->m.offset = buffer->index * BYTES;
        return 0;
    case VIDIOC_QBUF:
        queued[buffer->index] = 1;
        return 0;
    case VIDIOC_DQBUF:
        return take_frame(buffer);
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
    case VIDIOC_S_INPUT:
        return 0;
    case VIDIOC_G_INPUT:
        *(int *)data = 0;
        return 0;
    }
    return refuse(EINVAL);
}

int ioctl(int fd, unsigned long request, ...) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list rest;
    va_start(rest, request);
    void *data = va_arg(rest, void *);
    va_end(rest);
    return fd >= 0 && fd == camera ? answer(request & 0xffffffff, data) : real(fd, request, data);
}
