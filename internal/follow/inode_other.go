//go:build !unix

package follow

import "io/fs"

// inode is empty: here files of one name cannot be told apart.
func inode(fs.FileInfo) string { return "" }
