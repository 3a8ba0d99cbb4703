//go:build unix

package follow

import (
	"io/fs"
	"strconv"
	"syscall"
)

// inode is the number of the file, which another file of the same name does not have at the same time.
func inode(info fs.FileInfo) string {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return ":" + strconv.FormatUint(uint64(s.Dev), 10) + ":" + strconv.FormatUint(s.Ino, 10)
	}
	return ""
}
