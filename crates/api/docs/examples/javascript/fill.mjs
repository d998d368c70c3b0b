const body = { prefix: "def size(self):\n    return len(", suffix: "._items)\n", length: 1 };
const headers = { "content-type": "application/json" };
const response = await fetch("http://localhost:8080/fill", { method: "POST", headers, body: JSON.stringify(body) });
console.log((await response.json()).choices[0].holes[0].text);
