package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/ports"
)

// A cursor is the base64url, without padding, of the creation time in Unix milliseconds, 8 bytes big-endian, and the
// 16 bytes of the id. It says nothing of whose the job is, or was: it is a position and no permission.
const cursorBytes = 8 + 16

// latest is the last millisecond that RFC 3339 can write.
const latest = 253402300799999

func formatCursor(c ports.JobCursor) string {
	if c.IsZero() {
		return ""
	}
	id := uuid.MustParse(c.ID)
	data := binary.BigEndian.AppendUint64(make([]byte, 0, cursorBytes), uint64(c.CreatedAt.UnixMilli()))
	return base64.RawURLEncoding.EncodeToString(append(data, id[:]...))
}

// parseCursor reads a cursor, and nothing that formatCursor would write otherwise.
func parseCursor(s string) (ports.JobCursor, bool) {
	if len(s) != base64.RawURLEncoding.EncodedLen(cursorBytes) {
		return ports.JobCursor{}, false
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(data) != cursorBytes {
		return ports.JobCursor{}, false
	}
	ms := binary.BigEndian.Uint64(data)
	if ms > latest {
		return ports.JobCursor{}, false
	}
	return ports.JobCursor{CreatedAt: time.UnixMilli(int64(ms)).UTC(), ID: uuid.UUID(data[8:]).String()}, true
}
