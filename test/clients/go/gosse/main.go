// Command gosse listens with github.com/tmaxmax/go-sse and prints each message as a line of JSON.
package main

import (
	"encoding/json"
	"net/http"
	"os"

	"github.com/tmaxmax/go-sse"
)

// An event has at most 16 MiB; without it none above 64 KiB can be read, and the client asks for it for ever.
const maxEventBytes = 1 << 25

func main() {
	request, err := http.NewRequest(http.MethodGet, os.Args[1], http.NoBody)
	if err != nil {
		panic(err)
	}
	lines := json.NewEncoder(os.Stdout)
	connection := sse.NewConnection(request)
	connection.Buffer(nil, maxEventBytes)
	connection.SubscribeToAll(func(event sse.Event) {
		name := event.Type
		if name == "" {
			name = "message"
		}
		_ = lines.Encode(map[string]string{"name": name, "id": event.LastEventID, "data": event.Data})
	})
	panic(connection.Connect())
}
