package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
)

func TestErrorsAreClassifiedOnce(t *testing.T) {
	t.Parallel()
	ours := domain.Errorf(domain.Conflict, domain.ReasonLeased, "ours")
	for _, tt := range []struct {
		name string
		err  error
		want domain.Kind
	}{
		{"one of ours", ours, domain.Conflict},
		{"a cancelled call", context.Canceled, domain.Unavailable},
		{"a call out of time", fmt.Errorf("timeout: %w", context.DeadlineExceeded), domain.Unavailable},
		{"no row", sql.ErrNoRows, domain.NotFound},
		{"a cut connection", io.ErrUnexpectedEOF, domain.Unavailable},
		{"a connection that ends", io.EOF, domain.Unavailable},
		{"a reset connection", &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, domain.Unavailable},
		{"a closed connection", pgconn.ErrConnClosed, domain.Unavailable},
		{"a connection that was given back", sql.ErrConnDone, domain.Unavailable},
		{"a bad connection", driver.ErrBadConn, domain.Unavailable},
		{"connection_failure", &pgconn.PgError{Code: "08006"}, domain.Unavailable},
		{"disk_full", &pgconn.PgError{Code: "53100"}, domain.Unavailable},
		{"too_many_connections", &pgconn.PgError{Code: "53300"}, domain.Unavailable},
		{"query_canceled", &pgconn.PgError{Code: "57014"}, domain.Unavailable},
		{"admin_shutdown", &pgconn.PgError{Code: "57P01"}, domain.Unavailable},
		{"cannot_connect_now", fmt.Errorf("connect: %w", &pgconn.PgError{Code: "57P03"}), domain.Unavailable},
		{"io_error", &pgconn.PgError{Code: "58030"}, domain.Unavailable},
		{"serialization_failure", &pgconn.PgError{Code: "40001"}, domain.Unavailable},
		{"deadlock_detected", &pgconn.PgError{Code: "40P01"}, domain.Unavailable},
		{"lock_not_available", &pgconn.PgError{Code: "55P03"}, domain.Unavailable},
		{"read_only_sql_transaction", &pgconn.PgError{Code: "25006"}, domain.Unavailable},
		{"idle_in_transaction_session_timeout", &pgconn.PgError{Code: "25P03"}, domain.Unavailable},
		{"program_limit_exceeded", &pgconn.PgError{Code: "54000"}, domain.TooLarge},
		{"character_not_in_repertoire", &pgconn.PgError{Code: "22021"}, domain.Invalid},
		{"undefined_table", &pgconn.PgError{Code: "42P01"}, domain.Internal},
		{"insufficient_privilege", &pgconn.PgError{Code: "42501"}, domain.Internal},
		{"a code that is none", &pgconn.PgError{Code: ""}, domain.Internal},
		{"anything else", errors.New("a bug"), domain.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := sqlstore.Translate(tt.err)
			if domain.KindOf(got) != tt.want {
				t.Errorf("%v is %v, want %v", got, domain.KindOf(got), tt.want)
			}
			if tt.want != domain.NotFound && !errors.Is(got, tt.err) {
				t.Errorf("%v has lost its cause", got)
			}
		})
	}
	if err := sqlstore.Translate(nil); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}
