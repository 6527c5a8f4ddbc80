// A server made of npm's smtp-server: smtp_server.js FOLDER CLEAR-PORT STARTTLS-PORT IMPLICIT-PORT.
//
// Knows the one user and the folder. Must not know what is sent to it.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { SMTPServer } = require('smtp-server');

const [folder, clear, starttls, implicit] = process.argv.slice(2);
const box = path.join(folder, 'mail', 'box', 'new');
fs.mkdirSync(box, { recursive: true });
let number = 0;

function signed(token) {
    const [header, claims, signature] = token.split('.');
    const right = crypto.createHmac('sha256', process.env.TOKEN_KEY).update(`${header}.${claims}`);
    return right.digest('base64url') === signature;
}

function refusal(code, text) {
    return Object.assign(new Error(text), { responseCode: code });
}

function deliver(session, content) {
    for (const recipient of session.envelope.rcptTo) {
        const trace =
            `Return-Path: <${session.envelope.mailFrom.address}>\r\n` +
            `Delivered-To: ${recipient.address}\r\n`;
        const name = String(number++);
        const unfinished = path.join(box, '..', name);
        fs.writeFileSync(unfinished, Buffer.concat([Buffer.from(trace), content]));
        fs.renameSync(unfinished, path.join(box, name));
    }
}

const all = {
    name: 'mail.test',
    size: 50 * 1024 * 1024,
    disableReverseLookup: true,
    hideDSN: false,
    hideENHANCEDSTATUSCODES: false,
    hideREQUIRETLS: false,
    authOptional: true,
    onRcptTo({ address }, session, callback) {
        if (address.startsWith('nosuch@')) return callback(refusal(550, 'no such user'));
        if (!address.endsWith('@mail.test') && !session.user) {
            return callback(refusal(554, 'relay access denied'));
        }
        callback();
    },
    onData(stream, session, callback) {
        const pieces = [];
        stream.on('data', (piece) => pieces.push(piece));
        stream.on('end', () => {
            if (stream.sizeExceeded) return callback(refusal(552, 'too big'));
            deliver(session, Buffer.concat(pieces));
            callback(null, 'queued');
        });
    },
};
const withTLS = {
    key: fs.readFileSync(path.join(folder, 'tls', 'key.pem')),
    cert: fs.readFileSync(path.join(folder, 'tls', 'chain.pem')),
    authMethods: ['PLAIN', 'LOGIN', 'CRAM-MD5', 'XOAUTH2'],
    onAuth(auth, session, callback) {
        if (auth.method === 'XOAUTH2') {
            const valid = auth.username === 'alice' && signed(auth.accessToken);
            return callback(null, valid ? { user: 'alice' } : { data: { status: '401', schemes: 'bearer' } });
        }
        const right =
            auth.method === 'CRAM-MD5' ? auth.validatePassword('secret') : auth.password === 'secret';
        if (auth.username === 'alice' && right) return callback(null, { user: 'alice' });
        callback(refusal(535, 'wrong user name or password'));
    },
};

for (const [port, options] of [
    [clear, { disabledCommands: ['AUTH', 'STARTTLS'] }],
    [starttls, withTLS],
    [implicit, { ...withTLS, secure: true }],
]) {
    const server = new SMTPServer({ ...all, ...options });
    server.on('error', (error) => console.error(error.message)); // of a client: it goes on
    server.server.on('error', () => process.exit(1)); // of the port: another one is wanted
    server.listen(Number(port), '127.0.0.1');
}
