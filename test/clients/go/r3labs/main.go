// Command r3labs listens with github.com/r3labs/sse and prints each message as a line of JSON.
package main

import (
	"encoding/json"
	"os"

	"github.com/r3labs/sse/v2"
)

// An event has at most 16 MiB; without it none above 64 KiB can be read, and the client asks for it for ever.
const maxEventBytes = 1 << 25

func main() {
	lines := json.NewEncoder(os.Stdout)
	client := sse.NewClient(os.Args[1], sse.ClientMaxBufferSize(maxEventBytes))
	err := client.SubscribeRaw(func(msg *sse.Event) {
		name := string(msg.Event)
		if name == "" {
			name = "message"
		}
		_ = lines.Encode(map[string]string{"name": name, "id": string(msg.ID), "data": string(msg.Data)})
	})
	if err != nil {
		panic(err)
	}
}
