// Plays a scene with the real AI SDK against a running server, and prints what the page shows: `node drive.mjs ai-7 URL SCENE`.
// The chat is what `useChat` is made of; the transport is the one that a page makes with nothing but `{ api }`.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, name, url, scene, argument] = process.argv.slice(2);
const sdk = await import(pathToFileURL(createRequire(`${folder}/`).resolve(name)).href);
const api = `${url}/api/conversations`;
const headers = { 'X-Test-User': 'ada' };

let sent = 0;

class State {
  status = 'ready';
  error = undefined;
  constructor(messages = []) {
    this.messages = messages;
  }
  pushMessage = message => {
    this.messages = [...this.messages, structuredClone(message)];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((one, place) => (place === index ? structuredClone(message) : one));
    this.changed?.(this.messages);
  };
  snapshot = structuredClone;
}

class Chat extends sdk.AbstractChat {
  constructor({ messages, ...init } = {}) {
    super({ ...init, transport: init.transport ?? transport(), state: new State(messages) });
  }
  get page() {
    return { status: this.status, error: this.error?.message ?? null, messages: this.messages, sent };
  }
  async settled(isIt = () => true) {
    await until(() => ['ready', 'error'].includes(this.status) && isIt(this));
    return this.page;
  }
}

async function until(isIt) {
  const deadline = Date.now() + 30_000;
  while (!isIt()) {
    if (Date.now() > deadline) throw new Error(`Still not: ${isIt}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

function transport(options = {}) {
  const fetch = (address, request) => {
    sent += request.method === 'POST';
    return (options.fetch ?? globalThis.fetch)(address, request);
  };
  return new sdk.DefaultChatTransport({ api, headers, ...options, fetch });
}

/** A network that breaks off as soon as the page shows `word`. */
function breaking(word, page) {
  return async (address, request) => {
    const response = await fetch(address, request);
    if (request.method !== 'POST') return response;
    const reader = response.body.getReader();
    let said = '';
    const body = new ReadableStream({
      async pull(controller) {
        if (said.includes(word)) {
          await until(() => JSON.stringify(page().messages.at(-1)).includes(word));
          await reader.cancel();
          return controller.error(new TypeError('network error'));
        }
        const { value, done } = await reader.read();
        if (done) return controller.close();
        controller.enqueue(value);
        said += new TextDecoder().decode(value);
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

const loaded = async id => (await (await fetch(`${api}/${id}/ui-messages`, { headers })).json()).messages;

async function asked(text, init) {
  const chat = new Chat(init);
  await chat.sendMessage({ text });
  return chat;
}

const waiting = message => message.parts.filter(part => part.state === 'approval-requested');

const scenes = {
  async sends() {
    const chat = await asked('first');
    await chat.sendMessage({ text: 'second' });
    return { ...chat.page, id: chat.id };
  },

  async attaches() {
    const chat = new Chat();
    const files = [{ type: 'file', mediaType: 'text/plain', filename: 'a.txt', url: 'data:text/plain;base64,YQ==' }];
    await chat.sendMessage({ text: 'look', files, metadata: { from: 'page' } });
    return { ...chat.page, id: chat.id, loaded: await loaded(chat.id) };
  },

  async breaks() {
    const chat = new Chat({ transport: transport({ fetch: breaking('one ', () => chat) }) });
    await chat.sendMessage({ text: 'slow' });
    const broken = chat.page;
    await chat.resumeStream();
    return { broken, ...chat.page };
  },

  async comes_back() {
    const chat = new Chat({ transport: transport({ fetch: breaking('one ', () => chat) }) });
    await chat.sendMessage({ text: 'slow' });
    const again = new Chat({ id: chat.id, messages: await loaded(chat.id) });
    const before = again.messages.length;
    await again.resumeStream();
    await again.resumeStream();
    return { before, ...again.page };
  },

  async regenerates() {
    const chat = await asked('first');
    const first = chat.lastMessage.id;
    await chat.regenerate();
    const second = chat.lastMessage.id;
    await chat.regenerate({ messageId: second });
    return { first, second, ...chat.page, loaded: await loaded(chat.id) };
  },

  async edits() {
    const chat = await asked('first');
    await chat.sendMessage({ text: 'second' });
    const messageId = chat.messages[0].id;
    await chat.sendMessage({ text: 'other', messageId });
    await chat.sendMessage({ text: 'another', messageId });
    await chat.regenerate();
    await chat.sendMessage({ text: 'after' });
    return { ...chat.page, loaded: await loaded(chat.id) };
  },

  async decides() {
    const chat = await asked('tool', {
      sendAutomaticallyWhen: sdk.lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    const requested = structuredClone(chat.lastMessage);
    for (const part of waiting(requested)) {
      await chat.addToolApprovalResponse({ id: part.approval.id, approved: argument === 'approve' });
    }
    await chat.settled(({ lastMessage }) => lastMessage.parts.at(-1).type === 'text');
    await chat.settled();
    return { requested, ...chat.page, loaded: await loaded(chat.id) };
  },

  async decides_after_coming_back() {
    const chat = await asked('tool');
    const again = new Chat({
      id: chat.id,
      messages: await loaded(chat.id),
      sendAutomaticallyWhen: sdk.lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    await again.resumeStream();
    for (const part of waiting(again.lastMessage)) {
      await again.addToolApprovalResponse({ id: part.approval.id, approved: true });
    }
    await again.settled(({ lastMessage }) => lastMessage.parts.at(-1).type === 'text');
    await again.settled();
    return { ...again.page, loaded: await loaded(chat.id) };
  },

  async tells_all() {
    const chat = await asked('everything');
    return { ...chat.page, loaded: await loaded(chat.id) };
  },

  async goes_on() {
    const chat = await asked('first');
    const again = new Chat({ id: chat.id, messages: await loaded(chat.id) });
    await again.sendMessage({ text: 'second' });
    return { ...again.page, loaded: await loaded(chat.id) };
  },

  async fails() {
    const chat = await asked('crash');
    const failed = structuredClone(chat.page);
    await chat.regenerate();
    return { failed, ...chat.page };
  },

  async refused() {
    const chat = new Chat({ id: 'not a client id' });
    await chat.sendMessage({ text: 'first' });
    return chat.page;
  },

  async stops() {
    const chat = new Chat();
    const sending = chat.sendMessage({ text: 'slow' });
    await until(() => chat.lastMessage?.role === 'assistant' && chat.lastMessage.parts.length);
    await fetch(`${api}/${chat.id}/actions/cancel`, { method: 'POST', headers });
    await sending;
    return chat.page;
  },

  /** Each stream of `argument` (a list of `{ id, last }`) by itself, as another page reads it. */
  async cuts() {
    const found = [];
    for (const { chat, last } of JSON.parse(argument)) {
      const stream = await transport().reconnectToStream({ chatId: chat, headers: { 'Last-Event-ID': last } });
      if (stream === null) {
        found.push(null);
        continue;
      }
      let message = null;
      for await (message of sdk.readUIMessageStream({ stream, terminateOnError: true }));
      found.push(message);
    }
    return found;
  },
};

console.log(JSON.stringify(await scenes[scene]()));
