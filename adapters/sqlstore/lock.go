package sqlstore

import (
	"errors"
	"os"
)

// errLocked is returned by flock for a lock that another holds.
var errLocked = errors.New("the file is locked")

// lockFile opens the file, creating it with mode 0600, and takes its advisory lock without waiting: shared with
// others, or exclusive of them. The lock ends with the file's Close, or with the process, however that dies. The file
// is never removed: another process may hold the lock of the one that was.
func lockFile(path string, exclusive bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, exclusive); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
