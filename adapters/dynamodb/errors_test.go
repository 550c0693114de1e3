package dynamodb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

const namespace = "com.amazonaws.dynamodb.v20120810#"

func fault(code, message string) string {
	return fmt.Sprintf(`{"__type":"%s%s","message":%q}`, namespace, code, message)
}

// cancelled is the answer to a transaction of which each part was refused for a reason.
func cancelled(reasons string) string {
	return fmt.Sprintf(`{"__type":"%sTransactionCanceledException","Message":"Transaction cancelled","CancellationReasons":%s}`, namespace, reasons)
}

func TestErrorsAreTranslated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		answer string
		err    error
		want   domain.Kind
		tries  int
	}{
		{"provisioned throughput", 400, fault("ProvisionedThroughputExceededException", "slow down"), nil, domain.Throttled, 8},
		{"throttling", 400, fault("ThrottlingException", "slow down"), nil, domain.Throttled, 8},
		{"the account's limit", 400, fault("RequestLimitExceeded", "slow down"), nil, domain.Throttled, 8},
		{"a status that says too many", 429, fault("SomethingNew", ""), nil, domain.Throttled, 1},
		{"a write that met a transaction", 400, fault("TransactionConflictException", ""), nil, domain.Throttled, 8},
		{"a transaction that met another", 400, cancelled(`[{"Code":"None"},{"Code":"TransactionConflict","Message":"m"}]`), nil, domain.Throttled, 8},
		{"a transaction throttled", 400, cancelled(`[{"Code":"ThrottlingError","Message":"m"},{"Code":"None"}]`), nil, domain.Throttled, 8},
		{
			"a transaction too large", 400,
			cancelled(`[{"Code":"ValidationError","Message":"Item size to update has exceeded the maximum allowed size"}]`),
			nil, domain.TooLarge, 1,
		},
		{"a transaction refused", 400, cancelled(`[{"Code":"ValidationError","Message":"other"},{"Code":"TransactionConflict"}]`), nil, domain.Internal, 1},
		{"an item too large", 400, fault("ValidationException", "Item size has exceeded the maximum allowed size"), nil, domain.TooLarge, 1},
		{"a request not understood", 400, fault("ValidationException", "One or more parameter values were invalid"), nil, domain.Internal, 1},
		{"no such table", 400, fault("ResourceNotFoundException", "no table"), nil, domain.Internal, 1},
		{"no permission", 400, fault("AccessDeniedException", "arn:aws:iam::123456789012:role/jobs is not authorized"), nil, domain.Internal, 1},
		{"unknown credentials", 400, fault("UnrecognizedClientException", "token"), nil, domain.Internal, 1},
		{"a server fault", 500, fault("InternalServerError", "m"), nil, domain.Unavailable, 8},
		{"a gateway's page", 503, "<html>", nil, domain.Unavailable, 8},
		{"an answer that is none", 200, `{"Item":`, nil, domain.Unavailable, 1},
		{"no connection", 0, "", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, domain.Unavailable, 8},
		{"a connection cut", 0, "", io.ErrUnexpectedEOF, domain.Unavailable, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				client := service(func(*http.Request, string, []byte) (int, string, error) {
					tries++
					return c.status, c.answer, c.err
				}).client()
				began := time.Now()
				_, err := dynamodb.NewStore(client, "jobs", dynamodb.Options{}).Get(t.Context(), uuid.NewString())
				wantKind(t, "Get", err, c.want)
				if tries != c.tries {
					t.Errorf("it took %d tries, want %d", tries, c.tries)
				}
				if spent := time.Since(began); spent > 8*time.Second {
					t.Errorf("it took %v", spent)
				}
				if e, _ := errors.AsType[*domain.Error](err); c.want == domain.Throttled && e.RetryAfter != time.Second {
					t.Errorf("RetryAfter = %v, want a second", e.RetryAfter)
				}
			})
		})
	}
}

func TestThrottlingThatPassesIsNotSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		client := service(func(*http.Request, string, []byte) (int, string, error) {
			if tries++; tries < 6 {
				return 400, fault("ThrottlingException", "slow down"), nil
			}
			return 200, `{}`, nil
		}).client()
		store := dynamodb.NewStore(client, "jobs", dynamodb.Options{})
		if _, _, err := store.Create(t.Context(), portstest.NewJob(t, time.Now().UTC(), alice, "a")); err != nil {
			t.Error(err)
		}
	})
}

func TestBackoffEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		throttle := service(func(*http.Request, string, []byte) (int, string, error) {
			time.Sleep(100 * time.Millisecond)
			return 400, fault("ThrottlingException", "slow down"), nil
		}).client()
		// Never the record it was read as: each write is refused.
		contend := service(func(_ *http.Request, operation string, _ []byte) (int, string, error) {
			time.Sleep(50 * time.Millisecond)
			if operation == "GetItem" {
				return 200, `{"Item":{"pk":{"S":"x"},"revision":{"N":"7"},"job":{"S":"{\"id\":\"x\",\"status\":\"queued\"}"}}}`, nil
			}
			return 400, fault("ConditionalCheckFailedException", "The conditional request failed"), nil
		}).client()
		for name, client := range map[string]*dynamodb.Store{
			"throttled": dynamodb.NewStore(throttle, "jobs", dynamodb.Options{}),
			"contended": dynamodb.NewStore(contend, "jobs", dynamodb.Options{}),
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			began := time.Now()
			_, err := client.Update(ctx, uuid.NewString(), func(j domain.Job) (domain.Job, error) { return j, nil })
			cancel()
			wantKind(t, name, err, domain.Unavailable)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v does not wrap the context's error", name, err)
			}
			// A stub that sleeps does not hear of the context; a network does.
			if spent := time.Since(began); spent > 500*time.Millisecond {
				t.Errorf("%s: it went on for %v, the context had 400 ms", name, spent)
			}
			_, err = client.Update(t.Context(), uuid.NewString(), func(j domain.Job) (domain.Job, error) { return j, nil })
			wantKind(t, name+" without a deadline", err, domain.Throttled)
		}
	})
}

func TestABatchThatIsNeverAnsweredIsThrottling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, tries := newTable(), 0
		client := service(func(req *http.Request, operation string, body []byte) (int, string, error) {
			if operation != "BatchGetItem" {
				return db.answer(req, operation, body)
			}
			tries++
			return 200, `{"UnprocessedKeys":{"jobs":{"Keys":[{"pk":{"S":"x"}}]}}}`, nil
		}).client()
		store := dynamodb.NewStore(client, "jobs", dynamodb.Options{})
		if _, _, err := store.Create(t.Context(), portstest.NewJob(t, time.Now().UTC(), alice, "a")); err != nil {
			t.Fatal(err)
		}
		_, err := store.List(t.Context(), ports.JobQuery{Limit: 1})
		wantKind(t, "List", err, domain.Throttled)
		if tries != 8 {
			t.Errorf("it took %d tries, want 8", tries)
		}
	})
}

func TestAConnectionThatHangsIsLeftForAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		client := service(func(req *http.Request, _ string, _ []byte) (int, string, error) {
			if tries++; tries == 1 {
				<-req.Context().Done()
				return 0, "", req.Context().Err()
			}
			return 200, `{}`, nil
		}).client()
		began := time.Now()
		_, err := dynamodb.NewStore(client, "jobs", dynamodb.Options{}).Get(t.Context(), uuid.NewString())
		wantKind(t, "Get", err, domain.NotFound)
		if spent := time.Since(began); tries != 2 || spent < 3*time.Second || spent > 4*time.Second {
			t.Errorf("%d tries took %v, want a second one after 3 s", tries, spent)
		}
	})
}
